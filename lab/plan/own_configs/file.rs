//! A file of the user.

use std::fmt;

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
