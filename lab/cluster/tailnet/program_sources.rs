//! The Go modules of the tailnet's programs. The lab binary contains them, so that a lab without its source
//! tree can also build the programs.

use std::{
    io,
    path::{Path, PathBuf},
};

use lab_programs::Sources;

/// The files that a build reads, relative to the directory of all modules. `go.mod` pins the versions of
/// the programs. The modules contain no code.
pub(super) const SOURCES: Sources = Sources(&[
    ("tailnet/go.mod", include_str!("../../../images/tailnet/go.mod")),
    ("tailnet/go.sum", include_str!("../../../images/tailnet/go.sum")),
    ("tailscale/client-tags", include_str!("../../../images/tailscale/client-tags")),
    ("tailscale/go.mod", include_str!("../../../images/tailscale/go.mod")),
    ("tailscale/go.sum", include_str!("../../../images/tailscale/go.sum")),
]);

/// Returns the directory of the modules in `cache`, named by their digest. Unpacks the modules if the
/// directory does not exist.
///
/// # Errors
/// When the directory cannot be written.
pub(super) fn unpacked(cache: &Path) -> io::Result<PathBuf> {
    let directory = cache.join(SOURCES.digest().hex());
    SOURCES.unpack(&directory)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_modules_are_unpacked_once_as_they_are_in_the_project() {
        let cache = tempfile::tempdir().expect("cache");
        let directory = unpacked(&cache.path().join("sources")).expect("unpacked");
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images");
        for (name, _) in SOURCES.0 {
            let read = |below: &Path| fs::read(below.join(name)).expect(name);
            assert_eq!(read(&directory), read(&project), "{name}");
        }
        assert_eq!(SOURCES.digest_below(&directory).expect("read"), SOURCES.digest());
        fs::write(directory.join("kept"), "").expect("write");
        assert_eq!(unpacked(&cache.path().join("sources")).expect("again"), directory);
        assert!(directory.join("kept").is_file());
    }
}
