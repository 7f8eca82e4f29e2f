//! The sources of the program. The lab binary contains them, so that a lab without its source tree can also
//! build the program.

use std::{fs, io, path::Path};

use lab_image::keep_directory;
use lab_model::Digest;

/// The files that a build reads.
const FILES: [(&str, &str); 8] = [
    ("main.go", include_str!("program/main.go")),
    ("judge.go", include_str!("program/judge.go")),
    ("go.mod", include_str!("program/go.mod")),
    ("go.sum", include_str!("program/go.sum")),
    ("go.v1.11.mod", include_str!("program/go.v1.11.mod")),
    ("go.v1.11.sum", include_str!("program/go.v1.11.sum")),
    ("go.v1.12.mod", include_str!("program/go.v1.12.mod")),
    ("go.v1.12.sum", include_str!("program/go.v1.12.sum")),
];

/// Returns a name for this version of the sources.
pub(super) fn version() -> String {
    let content: String = FILES.iter().map(|(name, text)| format!("{name} {}\n{text}", text.len())).collect();
    Digest::of_bytes(content.as_bytes()).hex().chars().take(16).collect()
}

/// Writes the sources to `directory` if it does not exist.
///
/// # Errors
/// If the directory cannot be written.
pub(super) fn unpack(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(parent)?;
    for (name, text) in FILES {
        fs::write(partial.path().join(name), text)?;
    }
    keep_directory(partial, directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_are_unpacked_once_and_are_all_of_the_program() {
        let cache = tempfile::tempdir().expect("cache");
        let directory = cache.path().join("below/sources");
        unpack(&directory).expect("unpacked");
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("program");
        let names = |directory: &Path| {
            let mut names: Vec<_> = fs::read_dir(directory)
                .expect("list")
                .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
                .filter(|name| !name.ends_with("_test.go"))
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(&directory), names(&project), "a file of the program is not in FILES");
        fs::write(directory.join("kept"), "").expect("write");
        unpack(&directory).expect("again");
        assert!(directory.join("kept").is_file());
    }
}
