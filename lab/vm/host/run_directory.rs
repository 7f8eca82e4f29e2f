//! The directory of one run: everything it writes, and what the next run needs to clean up after
//! it when it could not do so itself.
//!
//! ```text
//! target/lab/compute-only-20261121-051200/
//!   lab.lock       locked while the owner lives; the kernel frees it however the owner dies
//!   processes/     one file per living child process (see `ProcessRecord`)
//!   lab.json       how to reach the live cluster (see `LabState`)
//!   result.json    written last; a directory without it and without a lock holder has died
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_model::{RunDirectoryError, RunResult, files::FileLock, io_error, write_json};

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
    /// Makes a new directory below `root` (usually `target/lab`), named after `name` and the time.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(root: &Path, name: &str) -> Result<Self, RunDirectoryError> {
        fs::create_dir_all(root).map_err(io_error("creating", root))?;
        // Absolute, because children and later runs have other working directories.
        let root = root.canonicalize().map_err(io_error("resolving", root))?;
        // The root's lock keeps a reaper from seeing a directory that is not locked yet.
        let _root_lock = lock_root(&root)?;
        let stamp = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        let base = format!("{}-{stamp}", file_name_of(name));
        for attempt in 1..=100 {
            let name = if attempt == 1 { base.clone() } else { format!("{base}-{attempt}") };
            let path = root.join(&name);
            match fs::create_dir(&path) {
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

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's own name, which is the run's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the run's child processes are written down, for [`super::reap`]. Not made here.
    pub fn processes(&self) -> PathBuf {
        self.path.join(PROCESSES)
    }

    /// Tells other commands (`lab status`, `lab down`) how to reach this lab. Replaces what was
    /// published before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&self, state: &LabState) -> Result<(), RunDirectoryError> {
        write_json(&self.path.join(STATE), state)
    }

    /// Marks the run as over. Call it last, when every child has ended.
    ///
    /// # Errors
    /// When the marker cannot be written; the next run then calls this one `died`.
    pub fn finish(&self, result: &RunResult) -> Result<(), RunDirectoryError> {
        result.write(&self.path)
    }
}

/// Takes the lock of the whole root, for the short moments when run directories come and go.
pub(super) fn lock_root(root: &Path) -> Result<FileLock, RunDirectoryError> {
    let path = root.join(".lock");
    FileLock::acquire(&path).map_err(io_error("locking", &path))
}

/// `name` as a part of a file name that needs no quotes in a shell.
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
}
