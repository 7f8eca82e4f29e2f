//! What a rule finds, and how it is said.

use std::fmt;

use lab_model::Severity;
use serde::Serialize;

use super::tree::Place;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file, as it was named on the command line.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// How bad.
    pub severity: Severity,
    /// The rule's id in the catalogue.
    pub rule: &'static str,
    /// What is wrong, without values that may be secret.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, severity, rule, message, help } = self;
        write!(f, "{file}:{}:{}: {severity}: {message} [{rule}]", place.line, place.column)?;
        write!(f, "\n    fix: {help}")
    }
}

/// Everything that was found, in the order of files and lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Puts findings into order; the same one found twice counts once.
    pub(super) fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort();
        findings.dedup();
        Self(findings)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|finding| finding.severity == severity).count()
    }
}
