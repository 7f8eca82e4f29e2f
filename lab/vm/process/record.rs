//! What a run writes down about its child processes, so that the next run can end what is left of
//! this one when the lab itself was killed.
//!
//! One file a child in the run's `processes` directory, written right after the child started and
//! removed when it has ended. Whether the owner still lives is not in it: the lock of the run
//! directory says so. For the instant before the file is there, Linux has the parent-death signal.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use lab_model::files::replace_file;
use serde::{Deserialize, Serialize};

use super::identity::ProcessIdentity;

/// How the file name of every record ends.
const SUFFIX: &str = ".process.json";

/// How the name of every socket directory begins. A directory of another name is never removed,
/// whatever a damaged record says.
pub const SOCKETS_PREFIX: &str = "lab-";

/// One child of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// What the lab calls it, e.g. the node's name.
    pub name: String,
    /// Which process it is.
    pub process: ProcessIdentity,
    /// The directory of its sockets, outside of the run directory because socket paths must be
    /// short. It goes when the process is gone. See [`SOCKETS_PREFIX`].
    pub sockets: Option<PathBuf>,
}

impl ProcessRecord {
    /// A record of the living child `pid`, or `None` if it is already gone.
    pub fn of(name: &str, pid: u32, sockets: Option<&Path>) -> Option<Self> {
        let process = ProcessIdentity::of(pid)?;
        Some(Self { name: name.to_owned(), process, sockets: sockets.map(Path::to_owned) })
    }

    /// Writes it to `directory` in one step, readable only by its owner, and returns the file.
    ///
    /// # Errors
    /// When the directory is missing, not writable or full.
    pub fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        // With the pid, because two processes may have one name.
        let path = directory.join(format!("{}-{}{SUFFIX}", self.name, self.process.pid));
        replace_file(&path, &serde_json::to_vec(self)?)?;
        Ok(path)
    }
}

/// The records in `directory` with their files, by name. No directory is no record; a file that is
/// not a record is left out.
pub(crate) fn read_records(directory: &Path) -> Vec<(PathBuf, ProcessRecord)> {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut records: Vec<_> = files
        .filter(|path| path.to_string_lossy().ends_with(SUFFIX))
        .filter_map(|path| {
            let record = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            Some((path, record))
        })
        .collect();
    records.sort_by(|a, b| a.0.cmp(&b.0));
    records
}

/// Whether a recorded socket directory may be removed.
pub(crate) fn may_remove(path: &Path) -> bool {
    let named = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(SOCKETS_PREFIX));
    let plain = !path.components().any(|part| matches!(part, Component::ParentDir));
    path.is_absolute() && named && plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_not_a_record_is_left_out() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let own = std::process::id();
        let record = ProcessRecord::of("node-1", own, Some(Path::new("/tmp/lab-1"))).expect("alive");
        let path = record.write(directory.path()).expect("written");
        fs::write(directory.path().join(format!("damaged-1{SUFFIX}")), "{").expect("write");
        fs::write(directory.path().join("notes"), "{}").expect("write");
        assert_eq!(read_records(directory.path()), [(path, record)]);
        assert_eq!(read_records(&directory.path().join("missing")), []);
    }

    #[test]
    fn only_socket_directories_of_a_lab_may_be_removed() {
        for refused in ["/", "/home", "relative/lab-1", "/tmp/lab-1/..", "/tmp/../lab-x", "/tmp/other"] {
            assert!(!may_remove(Path::new(refused)), "{refused}");
        }
        assert!(may_remove(Path::new("/tmp/lab-1")));
    }
}
