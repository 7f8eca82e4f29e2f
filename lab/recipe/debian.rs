//! The Debian packages of the image: fetched and unpacked by mmdebstrap, without emulation and
//! without root. The tool knows its mirror; none is named here.

use std::{fs, path::Path, process::Command};

use super::{
    listing::Listing,
    step::{Key, RecipeError, file, run},
};

/// The Debian release the packages come from.
pub(super) const RELEASE: &str = "trixie";

pub(super) fn key(packages: &Path) -> Result<Key, RecipeError> {
    Ok(Key::of("debian", 1).text(RELEASE).tree(packages)?.done())
}

/// Unpacks the packages of the list into the directory `output`. Files that only root could make
/// (devices) are left out.
pub(super) fn make(packages: &Path, output: &Path) -> Result<(), RecipeError> {
    let list = Listing::read(packages)?;
    let include = list.names()?.join(",");
    fs::create_dir_all(output).map_err(file("create", output))?;
    let archive = output.join("packages.tar");
    run(Command::new("mmdebstrap")
        .args(["--variant=extract", "--architectures=arm64", "--quiet"])
        .arg(format!("--include={include}"))
        .arg(RELEASE)
        .arg(&archive))?;
    let opened = fs::File::open(&archive).map_err(file("open", &archive))?;
    let mut entries = tar::Archive::new(std::io::BufReader::new(opened));
    for entry in entries.entries().map_err(file("read", &archive))? {
        let mut entry = entry.map_err(file("read", &archive))?;
        let wanted = matches!(
            entry.header().entry_type(),
            tar::EntryType::Regular
                | tar::EntryType::Directory
                | tar::EntryType::Symlink
                | tar::EntryType::Link
        );
        if wanted {
            entry.set_preserve_mtime(false);
            // `unpack_in` refuses paths that would leave the directory.
            entry.unpack_in(output).map_err(file("unpack", &archive))?;
        }
    }
    fs::remove_file(&archive).map_err(file("remove", &archive))
}

/// Name and version of every package in an unpacked tree, sorted.
pub(super) fn versions(tree: &Path) -> Result<Vec<(String, String)>, RecipeError> {
    let path = tree.join("var/lib/dpkg/status");
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    let mut found: Vec<_> = text.split("\n\n").filter_map(name_and_version).collect();
    found.sort();
    Ok(found)
}

fn name_and_version(paragraph: &str) -> Option<(String, String)> {
    let field = |name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    Some((field("Package")?, field("Version")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_paragraph_gives_name_and_version() {
        let paragraph =
            "Package: runc\nStatus: install ok unpacked\nVersion: 1.1.15-1\nDescription: x\n Version: no";
        assert_eq!(name_and_version(paragraph), Some(("runc".into(), "1.1.15-1".into())));
        assert_eq!(name_and_version("Package: x"), None);
    }
}
