//! A part in a ledger.

use serde::{Deserialize, Serialize};

/// A part of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerPart {
    /// The name of the part in the release: role, variant and form of a node image, or the name of a container image.
    pub part: String,
    /// The reference or path.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The size in bytes.
    pub bytes: u64,
    /// The build time (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What shows that the part is for arm64.
    pub architecture: Vec<String>,
    /// The kernel and the node software of a node image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// The extensions of a node image: name and version.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
    /// The valid signatures and attestations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub proofs: Vec<String>,
    /// Why the part could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
