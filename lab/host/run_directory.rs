//! The directory of one run: everything it writes, and what the next run needs to clean up after
//! it when it could not do so itself.
//!
//! ```text
//! target/lab/compute-only-20261121-051200/
//!   lab.lock       locked while the owner lives; the kernel frees it however the owner dies
//!   pids           one JSON line per child process: pid, start time, program
//!   temporary      one JSON line per directory outside of here that goes when the run goes
//!   lab.json       how to reach the live cluster (see `LabState`)
//!   result.json    written last; a directory without it and without a lock holder has died
//! ```
//!
//! Records are appended and flushed before they matter: a child is written down right after it
//! started. For the instant between, children carry the run's path in their environment
//! ([`RUN_VARIABLE`]), where [`super::reap`] finds them on Linux.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::files::{FileLock, replace_file};
use super::live::LabState;
use super::process::ProcessIdentity;

/// The environment variable that every child process of a run must carry; its value is
/// [`RunDirectory::path`].
pub const RUN_VARIABLE: &str = "LAB_RUN_DIRECTORY";

/// The start of every directory name that [`RunDirectory::record_temporary`] accepts, so that a
/// damaged record can never make the reaper remove anything else.
pub const TEMPORARY_PREFIX: &str = "lab-";

pub(super) const LOCK: &str = "lab.lock";
pub(super) const PIDS: &str = "pids";
pub(super) const TEMPORARY: &str = "temporary";
pub(super) const STATE: &str = "lab.json";
pub(super) const RESULT: &str = "result.json";

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every verdict is green.
    Passed,
    /// A verdict is red.
    Failed,
    /// Stopped by its user.
    Interrupted,
    /// The lab itself failed.
    Broken,
    /// The owner vanished without a word; written by the next run.
    Died,
}

/// The content of `result.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    /// How it ended.
    pub ending: Ending,
    /// When, wall clock.
    pub at: jiff::Timestamp,
    /// The cause in one line; empty when passed.
    #[serde(default)]
    pub cause: String,
}

/// What stands in the way of a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirectoryError {
    /// The file system refused.
    #[error("{action} {path} failed: {source}; check that the disk is writable and not full")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A path that the reaper would not dare to remove.
    #[error("{0} cannot be recorded for removal: it must be absolute and its name start with \"lab-\"")]
    NotTemporary(PathBuf),
}

pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> RunDirectoryError + use<> {
    let path = path.to_owned();
    move |source| RunDirectoryError::Io { action, path, source }
}

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

    /// The variable and value that every child's environment must have.
    pub fn environment(&self) -> (&'static str, &Path) {
        (RUN_VARIABLE, &self.path)
    }

    /// Writes a child down, right after it was started. A child that is already gone needs no
    /// record.
    ///
    /// # Errors
    /// When the record cannot be written; the caller should then end the child.
    pub fn record_child(&self, pid: u32) -> Result<(), RunDirectoryError> {
        match ProcessIdentity::of(pid) {
            Some(identity) => self.append(PIDS, &identity),
            None => Ok(()),
        }
    }

    /// Writes down a directory outside the run directory (sockets need short paths), before it is
    /// used. Its name must begin with [`TEMPORARY_PREFIX`].
    ///
    /// # Errors
    /// When the path is not one that may be removed later, or the record cannot be written.
    pub fn record_temporary(&self, directory: &Path) -> Result<(), RunDirectoryError> {
        if !may_remove(directory) {
            return Err(RunDirectoryError::NotTemporary(directory.to_owned()));
        }
        self.append(TEMPORARY, &directory)
    }

    /// Tells other commands (`lab status`, `lab down`) how to reach this lab. Replaces what was
    /// published before.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&self, state: &LabState) -> Result<(), RunDirectoryError> {
        self.write_json(STATE, state)
    }

    /// Marks the run as over. Call it last, when every child has ended.
    ///
    /// # Errors
    /// When the marker cannot be written; the next run then calls this one `died`.
    pub fn finish(&self, result: &RunResult) -> Result<(), RunDirectoryError> {
        self.write_json(RESULT, result)
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RunDirectoryError> {
        let path = self.path.join(name);
        let text = serde_json::to_vec_pretty(value).map_err(io::Error::other);
        text.and_then(|text| replace_file(&path, &text)).map_err(io_error("writing", &path))
    }

    fn append(&self, name: &str, record: &impl Serialize) -> Result<(), RunDirectoryError> {
        let path = self.path.join(name);
        let write = || {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            // One write call: after a kill the file holds whole lines or a last one without its end.
            OpenOptions::new().create(true).append(true).open(&path)?.write_all(&line)
        };
        write().map_err(io_error("writing", &path))
    }
}

/// Takes the lock of the whole root, for the short moments when run directories come and go.
pub(super) fn lock_root(root: &Path) -> Result<FileLock, RunDirectoryError> {
    let path = root.join(".lock");
    FileLock::acquire(&path).map_err(io_error("locking", &path))
}

/// The records of an append-only file; a last line cut off by a crash is dropped.
pub(super) fn read_records<T: DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Whether the reaper would remove this path.
pub(super) fn may_remove(path: &Path) -> bool {
    let named = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(TEMPORARY_PREFIX));
    let plain = !path.components().any(|c| matches!(c, std::path::Component::ParentDir));
    path.is_absolute() && named && plain
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

    #[test]
    fn a_record_cut_off_by_a_crash_is_dropped() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join(PIDS);
        fs::write(&path, "{\"pid\":7,\"start\":\"s\",\"program\":\"p\"}\nrubbish\n{\"pid\":8,\"st")
            .expect("write");
        let records: Vec<ProcessIdentity> = read_records(&path);
        assert_eq!(records.iter().map(|r| r.pid).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn only_lab_directories_can_be_recorded_for_removal() {
        let root = tempfile::tempdir().expect("temporary directory");
        let run = RunDirectory::create(root.path(), "x").expect("run");
        for refused in ["/", "/home", "relative/lab-1", "/tmp/lab-1/..", "/tmp/../lab-x", "/tmp/other"] {
            assert!(run.record_temporary(Path::new(refused)).is_err(), "{refused}");
        }
        run.record_temporary(Path::new("/tmp/lab-1")).expect("accepted");
    }
}
