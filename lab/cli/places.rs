//! The options for directories whose default depends on where the lab is started: [`lab::places`] decides.

use std::path::{Path, PathBuf};

use clap::Args;
use lab::places::Places;
use lab_model::ExitCode;
use lab_report::{Recording, RecordingError};

use super::Failed;

/// The directory of the runs.
#[derive(Args, Clone, Debug, Default)]
pub struct RunRoot {
    /// Directory of the runs [default: target/lab in a project, otherwise lab in $XDG_STATE_HOME or in ~/.local/state]
    #[arg(long, value_name = "DIR")]
    run_root: Option<PathBuf>,
}

impl RunRoot {
    pub(super) fn path(&self) -> PathBuf {
        self.run_root.clone().unwrap_or_else(|| Places::here().runs())
    }

    /// The recording of a run, by its directory, the beginning of its name or its file; without one, of the newest run.
    pub(super) fn recording(&self, run: Option<&Path>) -> Result<Recording, RecordingError> {
        match run {
            Some(run) => Recording::find(run, &self.path()),
            None => Recording::newest(&self.path()),
        }
    }
}

/// The directory of the built images.
#[derive(Args, Clone, Debug)]
pub struct ImagesDirectory {
    /// Directory of the images of the reference node, the workload images and the programs for this host [default:
    /// target/images if it exists, otherwise the images that came with this program]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
}

impl ImagesDirectory {
    /// The directory, which is there unless the user named another one.
    pub(super) fn path(&self) -> Result<PathBuf, Failed> {
        match &self.images {
            Some(images) => Ok(images.clone()),
            None => Places::here().images().map_err(|error| Failed::new(ExitCode::BadInput, error)),
        }
    }

    /// The directory for a command that needs no image, and builds what it needs of the rest.
    pub(super) fn for_programs(&self) -> PathBuf {
        existing_or_built(self.images.as_deref())
    }
}

/// The directory that the user named, otherwise the one that exists, otherwise the one in which things are built.
pub(super) fn existing_or_built(named: Option<&Path>) -> PathBuf {
    let places = Places::here();
    let default = || places.images().unwrap_or_else(|_| places.built());
    named.map_or_else(default, Path::to_owned)
}
