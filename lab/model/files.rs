//! Atomic file replacement, and file locks that the kernel releases when their process ends.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::Path,
};

/// Replaces `path` with `contents` atomically. Readers see either the old file or the complete new file,
/// even if the writer is killed. The file mode is 0600.
///
/// # Errors
/// Returns an error if the directory is not writable or the disk is full. `path` is then unchanged.
pub fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Create the temporary file on the same file system; a rename across file systems would be a copy.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(contents)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// An exclusive file lock (`flock`), held until dropped. The kernel releases the lock at process exit, so a
/// lock cannot be stale. Child processes do not inherit it, because the descriptor is close-on-exec.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Waits for the lock. Creates the file if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or the file system does not support locks.
    pub fn acquire(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        file.lock()?;
        Ok(Self { _file: file })
    }

    /// Acquires the lock if it is free. Returns `None` if another process, or another handle in this
    /// process, holds the lock.
    ///
    /// # Errors
    /// Returns the same errors as [`FileLock::acquire`].
    pub fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Returns the user's runtime directory for state that labs on this host share: locks, reservations,
/// sockets. The path is `$XDG_RUNTIME_DIR/lab`, or `/tmp/lab-UID` if the variable is not set.
///
/// # Errors
/// Returns an error if the directory cannot be created, belongs to another user or is accessible to others
/// (another user could have planted it).
pub fn runtime_directory() -> io::Result<std::path::PathBuf> {
    let user = nix::unistd::geteuid();
    let path = match std::env::var_os("XDG_RUNTIME_DIR").filter(|v| Path::new(v).is_dir()) {
        Some(base) => Path::new(&base).join("lab"),
        None => Path::new("/tmp").join(format!("lab-{user}")),
    };
    private_directory(&path)?;
    Ok(path)
}

/// Creates `path` with mode 0700, or verifies its mode and owner.
fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::symlink_metadata(path)?;
    let ours = metadata.is_dir()
        && metadata.uid() == nix::unistd::geteuid().as_raw()
        && metadata.mode() & 0o077 == 0;
    if ours {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("{} is not a directory that only this user can enter; remove it", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_refused_and_a_dropped_one_is_free() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("lock");
        let held = FileLock::try_acquire(&path).expect("lock").expect("free");
        assert!(FileLock::try_acquire(&path).expect("try").is_none());
        drop(held);
        assert!(FileLock::try_acquire(&path).expect("try").is_some());
    }

    #[test]
    fn a_replaced_file_is_private_and_leaves_no_temporary_file() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("state.json");
        replace_file(&path, b"one").expect("first");
        replace_file(&path, b"two").expect("second");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::metadata(&path).expect("metadata").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("shared");
        private_directory(&path).expect("made");
        private_directory(&path).expect("kept");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert_eq!(private_directory(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
