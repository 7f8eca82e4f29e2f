//! The Go modules of the tailnet's programs. They are part of the lab itself, so that a lab that was
//! installed without its source tree builds the programs as well.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_image::keep_directory;
use lab_model::Digest;

/// Each file that a build reads, below the directory of all modules. `go.mod` requires the programs by
/// version; there is no code here.
const FILES: [(&str, &str); 5] = [
    ("tailnet/go.mod", include_str!("../../../images/tailnet/go.mod")),
    ("tailnet/go.sum", include_str!("../../../images/tailnet/go.sum")),
    ("tailscale/client-tags", include_str!("../../../images/tailscale/client-tags")),
    ("tailscale/go.mod", include_str!("../../../images/tailscale/go.mod")),
    ("tailscale/go.sum", include_str!("../../../images/tailscale/go.sum")),
];

/// The directory of the modules below `cache`, named by their content; unpacked unless it is there.
///
/// # Errors
/// When it cannot be written.
pub(super) fn unpacked(cache: &Path) -> io::Result<PathBuf> {
    let content: String = FILES.iter().map(|(name, text)| format!("{name} {}\n{text}", text.len())).collect();
    let directory = cache.join(Digest::of_bytes(content.as_bytes()).hex());
    if directory.is_dir() {
        return Ok(directory);
    }
    fs::create_dir_all(cache)?;
    let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(cache)?;
    for (name, text) in FILES {
        let path = partial.path().join(name);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)?;
    }
    keep_directory(partial, &directory)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_are_unpacked_once_as_they_are_in_the_project() {
        let cache = tempfile::tempdir().expect("cache");
        let directory = unpacked(&cache.path().join("sources")).expect("unpacked");
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("images");
        for (name, _) in FILES {
            let read = |below: &Path| fs::read(below.join(name)).expect(name);
            assert_eq!(read(&directory), read(&project), "{name}");
        }
        fs::write(directory.join("kept"), "").expect("write");
        assert_eq!(unpacked(&cache.path().join("sources")).expect("again"), directory);
        assert!(directory.join("kept").is_file());
    }
}
