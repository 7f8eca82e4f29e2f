//! A container image: what was found in it.

use lab_oci::containers::{ContainerImage, Programs};

use super::failure::Failure;

/// A container image of the release.
#[derive(Debug)]
pub struct ContainerEvidence {
    /// The reference or path, as written.
    pub source: String,
    /// Where the release names it: a file and a line.
    pub named_by: String,
    /// What was found, or why the image could not be read.
    pub facts: Result<ContainerFacts, Failure>,
}

/// What was found in a container image.
#[derive(Debug)]
pub struct ContainerFacts {
    pub image: ContainerImage,
    pub programs: Programs,
}
