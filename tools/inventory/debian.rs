//! Debian packages: those of the node images, and the C library that is linked to a static program.

use std::{fs, path::Path, process::Command};

use crate::{Component, Inventory, InventoryError, Kind, LicenceText, run::run};

/// The packages whose code a statically linked program for glibc contains.
const LINKED: [&str; 2] = ["libc6-dev", "gcc"];
/// The architecture of the nodes.
const NODES: &str = "arm64";
/// The texts that copyright files refer to. Debian's base system has them.
const COMMON: &str = "usr/share/common-licenses";

/// Adds a package of a node image. `tree` has its copyright file.
pub fn add(
    inventory: &mut Inventory,
    name: &str,
    version: &str,
    part: &str,
    tree: Option<&Path>,
) -> Result<(), InventoryError> {
    let mut component = Component::new(Kind::DebianPackage, name, version);
    component.architecture = Some(NODES.to_owned());
    inventory.add(component, part, |mut component| {
        if let Some(tree) = tree {
            component.texts = texts(tree, name)?;
        }
        Ok(component)
    })
}

/// Adds the C library of a program for Linux, and the runtime of its compiler, from the packages of this host.
pub fn add_linked(inventory: &mut Inventory, target: &str) -> Result<(), InventoryError> {
    if !target.contains("-linux-gnu") {
        return Ok(());
    }
    for name in LINKED {
        let text = run(Command::new("dpkg-query").args([
            "--show",
            "--showformat=${Version} ${Architecture}",
            name,
        ]))?;
        let (version, architecture) =
            text.split_once(' ').ok_or_else(|| InventoryError::format("dpkg-query", &text))?;
        let mut component = Component::new(Kind::DebianPackage, name, version);
        component.architecture = Some(architecture.to_owned());
        let complete = |mut component: Component| {
            component.texts = texts(Path::new("/"), name)?;
            Ok(component)
        };
        inventory.add(component, "bin/lab", complete)?;
    }
    Ok(())
}

/// The copyright file of a package, and the common licences that it refers to.
fn texts(tree: &Path, name: &str) -> Result<Vec<LicenceText>, InventoryError> {
    let path = tree.join("usr/share/doc").join(name).join("copyright");
    let bytes = fs::read(&path).map_err(InventoryError::file("read", &path))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut texts = vec![LicenceText { file: "copyright".to_owned(), text: text.clone() }];
    for common in referred(&text) {
        let own = tree.join(COMMON).join(&common);
        let path = if own.is_file() { own } else { Path::new("/").join(COMMON).join(&common) };
        let text = fs::read_to_string(&path).map_err(InventoryError::file("read", &path))?;
        texts.push(LicenceText { file: format!("common-licenses/{common}"), text });
    }
    Ok(texts)
}

/// The names of the common licences in a copyright file, sorted.
fn referred(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .split("common-licenses/")
        .skip(1)
        .map(|rest| {
            rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+')).collect()
        })
        .map(|name: String| name.trim_end_matches('.').to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copyright_file_comes_with_the_licences_that_it_refers_to() {
        let tree = tempfile::tempdir().expect("tree");
        let write = |name: &str, text: &str| {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, text).expect("file");
        };
        write(
            "usr/share/doc/kmod/copyright",
            "in `/usr/share/common-licenses/GPL-2'.\n/usr/share/common-licenses/LGPL-2.1.\n",
        );
        write("usr/share/common-licenses/GPL-2", "GPL");
        write("usr/share/common-licenses/LGPL-2.1", "LGPL");
        let files: Vec<_> =
            texts(tree.path(), "kmod").expect("texts").into_iter().map(|text| text.file).collect();
        assert_eq!(files, ["copyright", "common-licenses/GPL-2", "common-licenses/LGPL-2.1"]);
        assert!(texts(tree.path(), "runc").is_err());
    }
}
