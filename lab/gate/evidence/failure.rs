//! Why a part of a release could not be looked at.

use std::fmt;

/// The reason, with its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub cause: String,
}

/// What the author of the release must do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The registry has no image for arm64 under the reference.
    Platform,
    /// The registry does not have the reference.
    Missing,
    /// Nobody could look: the registry did not answer or refused.
    Unreachable,
    /// This host could not write or read a file.
    Host,
    /// The content is not what it should be.
    Damaged,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}
