//! Files that scenarios and tests name. They may be a stranger's, who must not choose what is read of this host.

use std::{
    io,
    path::{Path, PathBuf},
};

use lab_model::files::read_text_bounded;

/// The largest scenario file, test or script, and the largest file that one names, in bytes.
pub const LARGEST_FILE: u64 = 4 << 20;

/// Reads a file that a file in `directory` names. It must be in that directory or below `allowed`.
///
/// # Errors
/// If the file is elsewhere, is larger than [`LARGEST_FILE`], or cannot be read.
pub fn read_named(path: &Path, directory: &Path, allowed: &[PathBuf]) -> io::Result<String> {
    let real = path.canonicalize()?;
    let within = std::iter::once(directory).chain(allowed.iter().map(PathBuf::as_path));
    if !within.flat_map(Path::canonicalize).any(|place| real.starts_with(place)) {
        let why = "it is outside of the directory of the scenario; --allow-path DIR allows it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    read_text_bounded(&real, LARGEST_FILE)
}
