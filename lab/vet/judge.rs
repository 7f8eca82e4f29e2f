//! Runs checks against broken clusters, and tells which of them pass.

use std::{fmt, path::PathBuf, time::Duration};

use lab_model::files::read_text_bounded;
use lab_plan::cluster::Fault;
use serde::Serialize;

use super::{
    broken::{Broken, BrokenCluster, BrokenError},
    shell::{Reason, read_script},
    shellcheck::shellcheck,
    subject::Subject,
};
use crate::scenario::{LARGEST_FILE, checks::Observation};

/// A reason not to trust a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Finding {
    /// It passes on a broken cluster.
    Passes { on: Broken },
    /// It passes without extensions, and its scenario names a missing extension as the fault that must make it fail.
    PassesDespiteItsFault { fault: Fault },
    /// A line of its script hides a failure.
    Line { file: PathBuf, line: usize, reason: Reason, message: String },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passes { on } => write!(f, "passes {on}"),
            Self::PassesDespiteItsFault { fault } => {
                write!(f, "passes without extensions, and `failsWith` says that it fails then ({fault})")
            }
            Self::Line { file, line, message, .. } => write!(f, "{}:{line}: {message}", file.display()),
        }
    }
}

/// What was found about one check.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vetted {
    pub name: String,
    /// The reasons why the check proves nothing.
    pub findings: Vec<Finding>,
    /// What is worth knowing, and not wrong.
    pub notes: Vec<String>,
    /// The broken clusters on which the check failed, with its cause.
    pub fails: Vec<(Broken, String)>,
}

/// Vets one check. With `run`, the check runs against each broken cluster; otherwise, its script is only read. A check
/// that does not end within `limit` has not passed.
///
/// # Errors
/// If a broken cluster cannot be made.
pub async fn vet(subject: &Subject, run: bool, limit: Duration) -> Result<Vetted, BrokenError> {
    let mut vetted =
        Vetted { name: subject.name.clone(), findings: Vec::new(), notes: Vec::new(), fails: Vec::new() };
    if run {
        for broken in Broken::ALL {
            on_broken(subject, broken, limit, &mut vetted).await?;
        }
    }
    read(subject, &mut vetted).await?;
    Ok(vetted)
}

async fn on_broken(
    subject: &Subject,
    broken: Broken,
    limit: Duration,
    vetted: &mut Vetted,
) -> Result<(), BrokenError> {
    let cluster = BrokenCluster::make(broken).await?;
    let mut seen = Observation::default();
    let Some(check) = subject.check.on_host() else {
        vetted.notes.push("it needs nodes, so it was not run".to_owned());
        return Ok(());
    };
    let cause = match tokio::time::timeout(limit, check.judge(&cluster.view, &mut seen)).await {
        Err(_) => Some(format!("not done within {} s", limit.as_secs())),
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(())) => seen.cause(),
    };
    match (cause, &subject.fails_with) {
        (Some(cause), _) => vetted.fails.push((broken, cause)),
        (None, Some(fault @ Fault::MissingExtension { .. })) if !broken.must_fail() => {
            vetted.findings.push(Finding::PassesDespiteItsFault { fault: fault.clone() });
        }
        (None, _) if broken.must_fail() => vetted.findings.push(Finding::Passes { on: broken }),
        (None, _) => vetted.notes.push(format!("it passes {broken}, so it is no check of an extension")),
    }
    Ok(())
}

/// Reads the script of a check.
async fn read(subject: &Subject, vetted: &mut Vetted) -> Result<(), BrokenError> {
    let Some(file) = &subject.script else { return Ok(()) };
    let text = read_text_bounded(file, LARGEST_FILE)?;
    for (line, reason) in read_script(&text) {
        vetted.findings.push(Finding::Line { file: file.clone(), line, reason, message: reason.to_string() });
    }
    let records = tempfile::Builder::new().prefix("lab-vet-").tempdir()?;
    let processes = lab_vm::process::Processes::new(records.path())?;
    match shellcheck(file, &processes).await {
        None => vetted.notes.push("shellcheck is not installed, and was not asked".to_owned()),
        Some(found) => {
            let known: Vec<usize> = vetted.findings.iter().filter_map(line_of).collect();
            let new = found.into_iter().filter(|(line, _)| !known.contains(line));
            vetted.notes.extend(new.map(|(line, message)| format!("{}:{line}: {message}", file.display())));
        }
    }
    Ok(())
}

fn line_of(finding: &Finding) -> Option<usize> {
    match finding {
        Finding::Line { line, .. } => Some(*line),
        Finding::Passes { .. } | Finding::PassesDespiteItsFault { .. } => None,
    }
}
