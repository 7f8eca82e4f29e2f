//! What other users of the host can read, by the modes of files.
#![allow(dead_code, reason = "not every test uses both functions")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// All files, sockets and directories below a directory, and itself.
pub fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            found.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    found
}

/// The files and sockets below a directory that others can read or write, if they can enter the directory itself.
pub fn open_to_others(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        match metadata.is_dir() {
            true if metadata.mode() & 0o011 != 0 => found.extend(open_to_others(&path)),
            false if !metadata.is_symlink() && metadata.mode() & 0o066 != 0 => found.push(path),
            _ => {}
        }
    }
    found
}
