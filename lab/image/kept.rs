//! Entries of a cache, which appear whole.

use std::{fs, io, path::Path};

/// Makes a finished temporary directory the entry of a cache, whole or not at all. When another run
/// was faster, its entry is as good and stays.
///
/// # Errors
/// When there is no entry afterwards.
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
