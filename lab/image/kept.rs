//! Atomic creation of cache entries.

use std::{fs, io, path::Path};

/// Renames a complete temporary directory to a cache entry, atomically. If another run has already created
/// the entry, keeps that entry.
///
/// # Errors
/// Returns an error if the entry does not exist afterwards.
pub fn keep_directory(made: tempfile::TempDir, entry: &Path) -> io::Result<()> {
    match fs::rename(made.path(), entry) {
        Err(error) if !entry.is_dir() => Err(error),
        Err(_) => Ok(()),
        Ok(()) => {
            let _ = made.keep();
            Ok(())
        }
    }
}
