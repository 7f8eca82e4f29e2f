//! Why there is no inventory.

use std::{io, path::PathBuf};

/// The reason why the components could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("run {program}: {source}")]
    Start { program: String, source: io::Error },
    #[error("{command} ended with {status}: {output}")]
    Failed {
        command: String,
        status: String,
        /// The end of standard error.
        output: String,
    },
    #[error("{what} says something else than expected: {problem}")]
    Format { what: String, problem: String },
    /// Components without the text of a licence.
    #[error("no licence text was found for: {}", .0.join(", "))]
    NoText(Vec<String>),
    #[error("the bill of materials breaks its format: {}", .0.join("; "))]
    Bill(Vec<String>),
}

impl InventoryError {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn format(what: impl Into<String>, problem: impl ToString) -> Self {
        Self::Format { what: what.into(), problem: problem.to_string() }
    }
}
