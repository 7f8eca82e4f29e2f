//! The checks to vet: scripts, chainsaw tests, and the own checks of scenario files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lab_model::files::read_text_bounded;
use lab_plan::{cluster::Fault, scenario::ScenarioError};

use crate::scenario::{
    Check, LARGEST_FILE,
    checks::{Chainsaw, Run},
    load_allowing,
};

/// A check to vet.
pub struct Subject {
    /// How messages name it: the file, and the check in it.
    pub name: String,
    pub check: Arc<dyn Check>,
    /// The fault that must make the check fail, if the scenario names one.
    pub fails_with: Option<Fault>,
    /// The shell script, for reading.
    pub script: Option<PathBuf>,
}

/// Why a file has no checks.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error("read {}: {source}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("{}:{line}: {message}; docs/own-checks.md lists what the lab runs of Chainsaw", path.display())]
    Chainsaw { path: PathBuf, line: usize, message: String },
    #[error("{}: there is no script (*.sh), chainsaw test or scenario with own checks", path.display())]
    Nothing { path: PathBuf },
}

/// The checks of the files; a directory stands for the files in it.
///
/// # Errors
/// If a file cannot be read, or has no check.
pub fn subjects(
    paths: &[PathBuf],
    allowed: &[PathBuf],
    limit: Duration,
) -> Result<Vec<Subject>, SubjectError> {
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        if path.is_dir() {
            for file in files_in(path)? {
                found.extend(of_file(&file, allowed, limit)?);
            }
        } else {
            found.extend(of_file(path, allowed, limit)?);
        }
        if found.len() == before {
            return Err(SubjectError::Nothing { path: path.clone() });
        }
    }
    Ok(found)
}

/// The scripts and tests in a directory and below it, in order.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, SubjectError> {
    let failed = |source: std::io::Error| SubjectError::File { path: directory.to_owned(), source };
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name() {
        let entry = entry.map_err(|error| failed(error.into()))?;
        let is_test = entry.file_name() == "chainsaw-test.yaml";
        let is_script = entry.path().extension().is_some_and(|ending| ending == "sh");
        if entry.file_type().is_file() && (is_test || is_script) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

fn of_file(path: &Path, allowed: &[PathBuf], limit: Duration) -> Result<Vec<Subject>, SubjectError> {
    let name = path.display().to_string();
    let text = read_text_bounded(path, LARGEST_FILE)
        .map_err(|source| SubjectError::File { path: path.to_owned(), source })?;
    if !path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
        let check: Arc<dyn Check> = Arc::new(Run::of_script(path, Some(limit)));
        return Ok(vec![Subject { name, check, fails_with: None, script: Some(path.to_owned()) }]);
    }
    if text.contains("chainsaw.kyverno.io/") {
        let check = Chainsaw::of_file(path, &text, allowed).map_err(|problems| {
            let first = problems.into_iter().next();
            let (line, message) = first.map_or((1, String::new()), |problem| (problem.line, problem.message));
            SubjectError::Chainsaw { path: path.to_owned(), line, message }
        })?;
        return Ok(vec![Subject { name, check: Arc::new(check), fails_with: None, script: None }]);
    }
    let scenario = load_allowing(path, allowed)?;
    let own = scenario.checks.into_iter().filter(|spec| spec.check.on_host().is_some());
    Ok(own
        .map(|spec| Subject {
            name: format!("{name}, {}", spec.id),
            script: spec.check.on_host().and_then(|check| check.script()),
            check: spec.check,
            fails_with: spec.fails_with,
        })
        .collect())
}
