//! A user's file.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A file with its original text. Serialization and debug output contain only the name, because the text
/// contains secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFile {
    /// The path, for messages.
    pub origin: String,
    #[serde(skip)]
    pub text: String,
}

impl fmt::Debug for OwnFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnFile({})", self.origin)
    }
}
