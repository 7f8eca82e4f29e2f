//! The Debian packages of the image. mmdebstrap downloads and unpacks them, without emulation and without
//! root. The tool uses its default mirror.

use std::{fs, path::Path, process::Command};

use super::{
    listing::Listing,
    step::{Key, RecipeError, file, run},
};

/// The Debian release of the packages.
pub(super) const RELEASE: &str = "trixie";

/// File in the unpacked tree with a line `NAME VERSION` for every package. dpkg does not record packages
/// that are only unpacked.
const VERSIONS: &str = "packages.versions";

pub(super) fn key(packages: &Path) -> Result<Key, RecipeError> {
    Ok(Key::of("debian", 2).text(RELEASE).tree(packages)?.done())
}

/// Unpacks the packages of the list into the directory `output`. Skips files that require root (devices).
pub(super) fn make(packages: &Path, output: &Path) -> Result<(), RecipeError> {
    let list = Listing::read(packages)?;
    let include = list.names()?.join(",");
    fs::create_dir_all(output).map_err(file("create", output))?;
    let archive = output.join("packages.tar");
    run(Command::new("mmdebstrap")
        .arg(format!("--mode={}", mode(nix::unistd::geteuid().is_root())))
        .args(["--variant=extract", "--architectures=arm64", "--quiet"])
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg(format!("--include={include}"))
        .arg(format!("--extract-hook={}", record_versions()))
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
            // `unpack_in` rejects paths outside the directory.
            entry.unpack_in(output).map_err(file("unpack", &archive))?;
        }
    }
    fs::remove_file(&archive).map_err(file("remove", &archive))
}

/// Returns the mmdebstrap mode: `root` for root. For other users, `chrootless` requires neither user
/// namespaces nor a sub-uid range. Packages are only unpacked, so no
/// package script runs outside a chroot.
fn mode(is_root: bool) -> &'static str {
    if is_root { "root" } else { "chrootless" }
}

/// Returns the shell command that mmdebstrap runs with the tree as `$1`, while the archives exist.
fn record_versions() -> String {
    format!(
        "for archive in \"$1\"/var/cache/apt/archives/*.deb; do \
         dpkg-deb --show --showformat='${{Package}} ${{Version}}\\n' \"$archive\" || exit 1; \
         done > \"$1\"/{VERSIONS}"
    )
}

/// Returns `NAME VERSION` of every package in an unpacked tree, sorted.
pub(super) fn versions(tree: &Path) -> Result<Vec<String>, RecipeError> {
    let path = tree.join(VERSIONS);
    let text = fs::read_to_string(&path).map_err(file("read", &path))?;
    let mut found: Vec<_> = text.lines().map(str::to_owned).collect();
    found.sort();
    if found.is_empty() {
        return Err(RecipeError::Missing(format!(
            "{} names no package; mmdebstrap unpacked nothing",
            path.display()
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_sorted_and_an_empty_record_is_an_error() {
        let tree = tempfile::tempdir().expect("tempdir");
        let path = tree.path().join(VERSIONS);
        fs::write(&path, "runc 1.1.15-1\nkmod 34.2-2\n").expect("write");
        assert_eq!(versions(tree.path()).expect("versions"), ["kmod 34.2-2", "runc 1.1.15-1"]);
        fs::write(&path, "").expect("write");
        assert!(versions(tree.path()).is_err());
    }

    #[test]
    fn the_hook_records_each_archive_below_the_tree() {
        assert_eq!(
            record_versions(),
            r#"for archive in "$1"/var/cache/apt/archives/*.deb; do dpkg-deb --show --showformat='${Package} ${Version}\n' "$archive" || exit 1; done > "$1"/packages.versions"#
        );
    }
}
