//! The sources of the program. The lab binary contains them, so that a lab without its source tree can also
//! build the program.

use lab_programs::Sources;

/// The files that a build reads.
pub(super) const SOURCES: Sources = Sources(&[
    ("main.go", include_str!("program/main.go")),
    ("judge.go", include_str!("program/judge.go")),
    ("go.mod", include_str!("program/go.mod")),
    ("go.sum", include_str!("program/go.sum")),
    ("go.v1.11.mod", include_str!("program/go.v1.11.mod")),
    ("go.v1.11.sum", include_str!("program/go.v1.11.sum")),
    ("go.v1.12.mod", include_str!("program/go.v1.12.mod")),
    ("go.v1.12.sum", include_str!("program/go.v1.12.sum")),
]);

/// Returns a name for this version of the sources.
pub(super) fn version() -> String {
    SOURCES.digest().hex().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_sources_are_unpacked_once_and_are_all_of_the_program() {
        let cache = tempfile::tempdir().expect("cache");
        let directory = cache.path().join("below/sources");
        SOURCES.unpack(&directory).expect("unpacked");
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
        assert_eq!(names(&directory), names(&project), "a file of the program is not in SOURCES");
        fs::write(directory.join("kept"), "").expect("write");
        SOURCES.unpack(&directory).expect("again");
        assert!(directory.join("kept").is_file());
    }
}
