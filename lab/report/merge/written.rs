//! Writes the joined recording as a run directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_model::{
    Ending, RunDirectoryError, RunResult,
    events::Outcome,
    files::{create_private_directory, replace_file},
};

use super::{join::Merged, recording::FILE};

/// The reason why the joined recording could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The directory contains other files, which must not be mixed with the recording.
    #[error("{} is not empty; name a directory that is, or is not there yet", directory.display())]
    Taken { directory: PathBuf },
    /// A file operation failed.
    #[error("write the joined recording to {}: {source}", path.display())]
    File {
        /// The file or directory of the operation.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The run's result could not be written.
    #[error(transparent)]
    Result(#[from] RunDirectoryError),
}

impl Merged {
    /// Writes the recording and the result to `directory`, as in a run directory. Returns the path of
    /// the recording.
    ///
    /// # Errors
    /// Fails if the directory is not empty or cannot be written.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, WriteError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| WriteError::File { path, source }
        };
        create_private_directory(directory).map_err(failed(directory))?;
        if fs::read_dir(directory).map_err(failed(directory))?.next().is_some() {
            return Err(WriteError::Taken { directory: directory.to_owned() });
        }
        let recording = directory.join(FILE);
        let mut lines = Vec::new();
        for event in &self.events {
            serde_json::to_writer(&mut lines, event).map_err(io::Error::from).map_err(failed(&recording))?;
            lines.push(b'\n');
        }
        replace_file(&recording, &lines).map_err(failed(&recording))?;
        let (ending, cause) = match &self.outcome {
            Outcome::Passed => (Ending::Passed, String::new()),
            Outcome::Failed { cause } | Outcome::NotRun { cause } => (Ending::Failed, cause.clone()),
        };
        RunResult { ending, at: jiff::Timestamp::now(), cause }.write(directory)?;
        Ok(recording)
    }
}
