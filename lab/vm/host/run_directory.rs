//! The directory of one run: all files that the run writes, and the records that the next run needs
//! to clean up if this run could not.
//!
//! ```text
//! target/lab/compute-only-20261121-051200/
//!   lab.lock       locked while the owner lives; the kernel frees it when the owner dies
//!   processes/     one file per living child process (see `ProcessRecord`)
//!   lab.json       how to reach the live cluster (see `LabState`)
//!   result.json    written last; a directory without it and without a lock holder has died
//! ```

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use lab_model::{
    RunDirectoryError, RunResult,
    files::{FileLock, create_private_directory},
    io_error, write_json,
};

use super::live::LabState;

pub(super) const LOCK: &str = "lab.lock";
pub(super) const PROCESSES: &str = "processes";
pub(super) const STATE: &str = "lab.json";

/// The directory of the run that this process owns. Locked until dropped.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    name: String,
    _lock: FileLock,
}

impl RunDirectory {
    /// Creates a directory in `root` (usually `target/lab`), named after `name` and the time.
    ///
    /// # Errors
    /// Fails if a file system operation fails.
    pub fn create(root: &Path, name: &str) -> Result<Self, RunDirectoryError> {
        create_private_directory(root).map_err(io_error("creating", root))?;
        // Absolute, because children and later runs have other working directories.
        let root = root.canonicalize().map_err(io_error("resolving", root))?;
        // The lock on the root prevents a reaper from seeing a directory that is not locked yet.
        let _root_lock = lock_root(&root)?;
        let stamp = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        let base = format!("{}-{stamp}", file_name_of(name));
        for attempt in 1..=100 {
            let name = if attempt == 1 { base.clone() } else { format!("{base}-{attempt}") };
            let path = root.join(&name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let lock_path = path.join(LOCK);
                    let lock = FileLock::acquire(&lock_path).map_err(io_error("locking", &lock_path))?;
                    return Ok(Self { path, name, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("creating", &path)(error)),
            }
        }
        let taken = io::Error::new(io::ErrorKind::AlreadyExists, "100 runs of this name in one second");
        Err(io_error("creating", &root.join(base))(taken))
    }

    /// The absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the directory, which is also the name of the run.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory with the records of the run's child processes, for [`super::reap`]. This method
    /// does not create it.
    pub fn processes(&self) -> PathBuf {
        self.path.join(PROCESSES)
    }

    /// Publishes how other commands (`lab status`, `lab down`) can reach this lab. Replaces the
    /// previously published state.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub fn publish(&self, state: &LabState) -> Result<(), RunDirectoryError> {
        write_json(&self.path.join(STATE), state)
    }

    /// Marks the run as finished. Call this last, when every child process has ended.
    ///
    /// # Errors
    /// Fails if the marker cannot be written; the next run then reports this run as `died`.
    pub fn finish(&self, result: &RunResult) -> Result<(), RunDirectoryError> {
        result.write(&self.path)
    }
}

/// Takes the lock of the whole root, for the short time in which run directories are created or
/// removed.
pub(super) fn lock_root(root: &Path) -> Result<FileLock, RunDirectoryError> {
    let path = root.join(".lock");
    FileLock::acquire(&path).map_err(io_error("locking", &path))
}

/// Converts `name` to a part of a file name that needs no quotes in a shell.
fn file_name_of(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let text: String = name.chars().take(60).map(keep).collect();
    let text = text.trim_matches('-');
    if text.is_empty() { "run".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_of_one_name_get_two_directories() {
        let root = tempfile::tempdir().expect("temporary directory");
        let first = RunDirectory::create(root.path(), "a name/with ../ parts").expect("first");
        let second = RunDirectory::create(root.path(), "a name/with ../ parts").expect("second");
        assert_ne!(first.path(), second.path());
        assert!(first.name().starts_with("a-name-with-----parts-2"), "{}", first.name());
        assert_eq!(first.path().parent(), Some(root.path().canonicalize().expect("root").as_path()));
    }

    #[test]
    fn only_its_owner_enters_a_run_directory_and_a_new_root() {
        use std::os::unix::fs::MetadataExt;
        let outer = tempfile::tempdir().expect("temporary directory");
        let root = outer.path().join("target/lab");
        let run = RunDirectory::create(&root, "run").expect("run");
        let mode = |path: &Path| fs::metadata(path).expect("metadata").mode() & 0o777;
        assert_eq!([mode(&root), mode(run.path())], [0o700; 2]);
    }
}
