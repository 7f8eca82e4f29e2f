//! Signatures and attestations of the parts of a release.

use std::fmt;

/// The signatures and attestations of one part.
#[derive(Clone, Debug)]
pub struct ProofEvidence {
    /// The part, as the release names it.
    pub source: String,
    /// What was found, or why nobody could look.
    pub proofs: Result<Vec<Proof>, String>,
}

/// A signature or attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub kind: ProofKind,
    /// The kind of statement, such as `https://slsa.dev/provenance/v1`; empty for a signature.
    pub predicate: String,
    /// Whether it is signed by the key of the release and says this digest, or the reason why it does not count.
    pub verified: Result<(), String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofKind {
    Signature,
    Attestation,
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "signature",
            Self::Attestation => "attestation",
        })
    }
}
