//! What is wrong with an image.

use std::fmt;

use serde::Serialize;

pub use lab_model::Severity;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// A short name of the check.
    pub check: &'static str,
    /// The image, as it was named.
    pub image: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, check, image, message, help } = self;
        let sign = match severity {
            Severity::Error => "❌",
            Severity::Warning => "⚠",
        };
        write!(f, "{sign} {image}: {message} [{check}]\n    fix: {help}")
    }
}
