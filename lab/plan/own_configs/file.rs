//! A file of the user's, and what is said against one.

use std::fmt;

use lab_model::yaml::Place;
use serde::{Deserialize, Serialize};

/// A file as its owner wrote it. Serializes, and shows in debug output, as its name alone: the text holds
/// secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFile {
    /// Its path, for messages.
    pub origin: String,
    /// Its text.
    #[serde(skip)]
    pub text: String,
}

impl fmt::Debug for OwnFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnFile({})", self.origin)
    }
}

/// Why the lab cannot form a cluster of a file, without values that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file.
    pub file: String,
    /// Where in it; its beginning for what is missing.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place, message, .. } = self;
        write!(f, "{file}:{}:{}: {message}", place.line, place.column)
    }
}
