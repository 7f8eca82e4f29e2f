//! Texts of a release: documents that people read, and manifests that clusters read.

use lab_model::{Digest, Position};

/// A text, and what it mentions.
#[derive(Clone, Debug)]
pub struct TextEvidence {
    /// The file; for a file of an artefact, the artefact and the path.
    pub file: String,
    /// Whether clusters read it. Each image of a manifest is a part of the release.
    pub is_manifest: bool,
    pub mentions: Result<Vec<Mention>, String>,
}

/// Something that a text names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    pub position: Position,
    pub what: Mentioned,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mentioned {
    /// A complete reference: with a tag, a digest, or both.
    Reference(String),
    /// A digest without a name.
    Digest(Digest),
    /// A placeholder that nobody has filled.
    Placeholder(String),
    /// A reference whose text depends on something else, such as a template.
    Unresolved(String),
    /// A file with a reference that a template of a package reads, and that the package does not have.
    MissingFile(String),
}
