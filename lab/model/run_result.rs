//! The result of a run, as stored in the run directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::files::{read_bounded, replace_file};

/// The file in a run directory that holds its [`RunResult`].
pub const RESULT: &str = "result.json";
/// The largest result that is read, in bytes; its cause has the limit of an event's text.
const LARGEST: u64 = 1 << 20;

/// The final state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Every verdict is green.
    Passed,
    /// At least one verdict is red.
    Failed,
    /// The host could not run it, in most cases because of its memory.
    HostUnable,
    /// The user stopped the run.
    Interrupted,
    /// The lab itself failed.
    Broken,
    /// The run process ended without writing a result. The next run writes this state.
    Died,
}

/// The content of `result.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunResult {
    pub ending: Ending,
    /// The wall-clock time of the result.
    pub at: jiff::Timestamp,
    /// The cause in one line; empty if the run passed.
    #[serde(default)]
    pub cause: String,
}

impl RunResult {
    /// Reads the result in a run directory; `None` if the run has not left one.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not a result.
    pub fn read(directory: &Path) -> io::Result<Option<Self>> {
        match read_bounded(&directory.join(RESULT), LARGEST) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the result to the run directory.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), RunDirectoryError> {
        write_json(&directory.join(RESULT), self)
    }
}

/// An error of a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirectoryError {
    /// A file system operation failed.
    #[error("{action} {path} failed: {source}; check that the disk is writable and not full")]
    Io {
        /// The attempted operation.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirectoryError + use<> {
    let path = path.to_owned();
    move |source| RunDirectoryError::Io { action, path, source }
}

/// Replaces a file in a run directory atomically with `value` as JSON.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunDirectoryError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::other);
    text.and_then(|text| replace_file(path, &text)).map_err(io_error("writing", path))
}
