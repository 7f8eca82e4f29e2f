//! Atomic file replacement, and file locks that the kernel releases when their process ends.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Component, Path},
};

/// Whether an error means that the host has no space, no quota or no file descriptors left, and not that an input is
/// wrong.
pub fn is_exhausted(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOMEM};
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || error.raw_os_error().is_some_and(|code| [EMFILE, ENFILE, ENOMEM].contains(&code))
}

/// Whether an error, or one of its causes, [`is_exhausted`].
pub fn comes_from_exhaustion(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| error.downcast_ref().is_some_and(is_exhausted))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// Returns an error if the file cannot be read or is larger. The error names the limit and no content.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let amount = if limit < 1 << 20 { format!("{limit} bytes") } else { format!("{} MiB", limit >> 20) };
        let why = format!("it has more than {amount}, and no file of its kind is that large");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// Like [`read_bounded`], and if the content is not UTF-8.
pub fn read_text_bounded(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read_bounded(path, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Creates or truncates a file that only this user can read (mode 0600).
///
/// # Errors
/// Returns an error if the file cannot be opened.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Creates a directory and its missing parents. Only this user can enter those that it creates (mode 0700).
///
/// # Errors
/// Returns an error if the directory cannot be created.
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether a path has only plain components, so that `directory.join(path)` stays in the directory.
pub fn is_plain(path: &Path) -> bool {
    path.components().next().is_some()
        && path.components().all(|component| matches!(component, Component::Normal(_)))
}

/// The directory of a file: `.` for a name alone.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces `path` with `contents` atomically. Readers see either the old file or the complete new file,
/// even if the writer is killed. The file mode is 0600.
///
/// # Errors
/// Returns an error if the directory is not writable or the disk is full. `path` is then unchanged.
pub fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let directory = directory_of(path);
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
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Returns the user's runtime directory for state that labs on this host share: locks, reservations,
/// sockets. The path is `$XDG_RUNTIME_DIR/lab`, or `/tmp/lab-UID` if the variable is not set. If another user
/// owns that name in `/tmp`, it is `~/.cache/lab/run`.
///
/// # Errors
/// Returns an error if the directory cannot be created, belongs to another user or is accessible to others
/// (another user could have planted it).
pub fn runtime_directory() -> io::Result<std::path::PathBuf> {
    let user = nix::unistd::geteuid();
    if let Some(base) = std::env::var_os("XDG_RUNTIME_DIR").filter(|v| Path::new(v).is_dir()) {
        let path = Path::new(&base).join("lab");
        return private_directory(&path).map(|()| path);
    }
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/lab/run"));
    private_or(&Path::new("/tmp").join(format!("lab-{user}")), home.as_deref())
}

/// Returns the first directory if it is private, or `other` if another user took its name.
fn private_or(first: &Path, other: Option<&Path>) -> io::Result<std::path::PathBuf> {
    match (private_directory(first), other) {
        (Err(error), Some(other)) if error.kind() == io::ErrorKind::PermissionDenied => {
            if let Some(parent) = other.parent() {
                create_private_directory(parent)?;
            }
            private_directory(other).map(|()| other.to_owned())
        }
        (made, _) => made.map(|()| first.to_owned()),
    }
}

/// Creates `path` with mode 0700, or verifies its mode and owner.
fn private_directory(path: &Path) -> io::Result<()> {
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

    #[test]
    fn a_name_that_somebody_else_took_blocks_nobody() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("temporary directory");
        let (taken, own) = (directory.path().join("taken"), directory.path().join("cache/lab/run"));
        assert_eq!(private_or(&taken, Some(&own)).expect("free"), taken);
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o777)).expect("chmod");
        assert_eq!(private_or(&taken, Some(&own)).expect("own"), own);
        assert_eq!(fs::metadata(&own).expect("own").mode() & 0o777, 0o700);
        assert!(private_or(&taken, None).is_err());
    }

    #[test]
    fn what_is_created_for_secrets_is_private_whatever_the_umask() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let run = directory.path().join("root/run");
        create_private_directory(&run).expect("directory");
        create_private(&run.join("disk.raw")).expect("file");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").mode() & 0o777;
        assert_eq!([mode(&directory.path().join("root")), mode(&run)], [0o700; 2]);
        assert_eq!(mode(&run.join("disk.raw")), 0o600);
    }

    #[test]
    fn a_file_without_end_is_read_to_its_limit() {
        let error = read_bounded(Path::new("/dev/zero"), 1 << 20).expect_err("endless");
        assert_eq!(error.to_string(), "it has more than 1 MiB, and no file of its kind is that large");
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("text");
        fs::write(&path, [b'a', 0xff]).expect("write");
        assert_eq!(read_bounded(&path, 2).expect("read").len(), 2);
        assert!(read_bounded(&path, 1).is_err());
        assert_eq!(read_text_bounded(&path, 2).expect_err("bytes").to_string(), "it is not UTF-8 text");
    }

    #[test]
    fn only_plain_components_are_a_plain_path() {
        for (path, plain) in
            [("a/b.log", true), ("../a", false), ("a/../../b", false), ("/etc/passwd", false), ("", false)]
        {
            assert_eq!(is_plain(Path::new(path)), plain, "{path}");
        }
    }
}
