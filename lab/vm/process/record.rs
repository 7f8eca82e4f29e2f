//! Records of a run's child processes. If the lab is killed, the next run uses them to end the
//! remaining children.
//!
//! The `processes` directory of the run contains one file per child. The lab writes it right after
//! the child starts and removes it when the child has ended. The file does not state whether the
//! owner is alive: the lock of the run directory does. Until the file exists, Linux has the
//! parent-death signal.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use lab_model::files::replace_file;
use serde::{Deserialize, Serialize};

use super::identity::ProcessIdentity;

/// The file name suffix of every record.
const SUFFIX: &str = ".process.json";

/// The name prefix of every socket directory. The lab never removes a directory without this prefix,
/// even if a damaged record names it.
pub const SOCKETS_PREFIX: &str = "lab-";

/// One child of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// The name in the lab, e.g. the node name.
    pub name: String,
    pub process: ProcessIdentity,
    /// The directory with the child's sockets. It is outside the run directory, because socket paths
    /// must be short. The lab removes it when the process is gone. See [`SOCKETS_PREFIX`].
    pub sockets: Option<PathBuf>,
}

impl ProcessRecord {
    /// Creates a record of the running child `pid`; `None` if the child is already gone.
    pub fn of(name: &str, pid: u32, sockets: Option<&Path>) -> Option<Self> {
        let process = ProcessIdentity::of(pid)?;
        Some(Self { name: name.to_owned(), process, sockets: sockets.map(Path::to_owned) })
    }

    /// Writes the record to `directory` atomically, readable only by its owner, and returns the file
    /// path.
    ///
    /// # Errors
    /// Fails if the directory is missing, not writable or full.
    pub fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        // Includes the pid, because two processes can have the same name.
        let path = directory.join(format!("{}-{}{SUFFIX}", self.name, self.process.pid));
        replace_file(&path, &serde_json::to_vec(self)?)?;
        Ok(path)
    }
}

/// The records in `directory` with their files, sorted by name. A missing directory yields no
/// records; files that are not records are skipped.
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

/// Whether the lab may remove a recorded socket directory.
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
