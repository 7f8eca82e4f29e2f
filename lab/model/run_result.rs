//! How a run ended, as its directory keeps it.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::files::replace_file;

/// The file of a run directory that holds its [`RunResult`].
pub const RESULT: &str = "result.json";

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

impl RunResult {
    /// Leaves it in the directory of the run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), RunDirectoryError> {
        write_json(&directory.join(RESULT), self)
    }
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
}

pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirectoryError + use<> {
    let path = path.to_owned();
    move |source| RunDirectoryError::Io { action, path, source }
}

/// Replaces a file of a run directory with `value` as JSON, in one step.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunDirectoryError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::other);
    text.and_then(|text| replace_file(path, &text)).map_err(io_error("writing", path))
}
