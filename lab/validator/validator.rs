//! The validator: a process for each release that is asked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use lab_plan::{
    config::TalosContract,
    lint::{JudgeAnswer, JudgeRequest, NotAsked, TalosLibrary},
};

use super::{
    process::Process,
    program::{BuildError, Programs},
};

type Progress = Box<dyn Fn(&str) + Send + Sync>;

/// Asks Talos' own library. Builds and starts the program of a release when it is first asked for.
pub struct Validator {
    programs: Programs,
    progress: Progress,
    /// The processes, or the reasons why there are none: a failed build is not repeated.
    processes: Mutex<BTreeMap<TalosContract, Result<Process, String>>>,
}

impl Validator {
    /// The directory of the programs, relative to the directory of built images.
    const DIRECTORY: &str = "validator";

    /// Creates a validator with programs below the directory of built images. `progress` receives a line
    /// before each build.
    pub fn new(images: &Path, progress: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self {
            programs: Programs::at(&images.join(Self::DIRECTORY)),
            progress: Box::new(progress),
            processes: Mutex::default(),
        }
    }

    /// Builds the program of a release if it does not exist, and returns its path.
    ///
    /// # Errors
    /// If Go is not installed or the program does not build.
    pub fn build(&self, contract: TalosContract) -> Result<PathBuf, BuildError> {
        self.programs.built(contract, &self.progress)
    }
}

impl TalosLibrary for Validator {
    fn judge(&self, contract: TalosContract, request: &JudgeRequest<'_>) -> Result<JudgeAnswer, NotAsked> {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let process = processes.entry(contract).or_insert_with(|| {
            let program = self.programs.built(contract, &self.progress).map_err(|error| error.to_string())?;
            Process::start(&program).map_err(|error| error.to_string())
        });
        let process = process.as_mut().map_err(|reason| NotAsked(reason.clone()))?;
        let answer = process.ask(request).map_err(|error| error.to_string());
        let answer = answer.and_then(|answer| match answer.verdicts.len() == request.texts.len() {
            true => Ok(answer),
            false => Err(format!("{} verdicts on {} texts", answer.verdicts.len(), request.texts.len())),
        });
        answer.map_err(|reason| {
            // The process is not in a known state.
            processes.remove(&contract);
            NotAsked(reason)
        })
    }
}
