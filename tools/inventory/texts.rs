//! Licence files in the directory of a component.

use std::{fs, path::Path};

use walkdir::WalkDir;

use crate::{InventoryError, LicenceText};

/// How deep licence files of bundled sources are, e.g. `zstd/LICENSE` of a crate that compiles zstd.
const DEPTH: usize = 2;
/// A larger file is no licence, in bytes.
const LARGEST: u64 = 1 << 20;

/// The licence, copyright and notice files below `directory`, in the order of their names.
pub fn below(directory: &Path) -> Result<Vec<LicenceText>, InventoryError> {
    let mut texts = Vec::new();
    for entry in WalkDir::new(directory).max_depth(DEPTH).sort_by_file_name() {
        let entry = entry.map_err(|error| InventoryError::format(directory.display().to_string(), error))?;
        let small = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= LARGEST);
        if small && is_licence(&entry.file_name().to_string_lossy()) {
            let bytes = fs::read(entry.path()).map_err(InventoryError::file("read", entry.path()))?;
            let file = entry.path().strip_prefix(directory).unwrap_or(entry.path());
            texts.push(LicenceText {
                file: file.display().to_string(),
                text: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
    }
    Ok(texts)
}

fn is_licence(name: &str) -> bool {
    const SOURCES: [&str; 6] = [".rs", ".go", ".c", ".h", ".py", ".sh"];
    let name = name.to_lowercase();
    let starts =
        ["licen", "copying", "copyright", "notice", "unlicen"].iter().any(|start| name.starts_with(start));
    starts && !SOURCES.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_files_are_found_and_sources_are_not() {
        let directory = tempfile::tempdir().expect("directory");
        for name in ["LICENSE-MIT", "license.rs", "README.md", "zstd/COPYING", "a/b/c/LICENSE"] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, name).expect("file");
        }
        let found: Vec<_> =
            below(directory.path()).expect("read").into_iter().map(|text| text.file).collect();
        assert_eq!(found, ["LICENSE-MIT", "zstd/COPYING"]);
    }
}
