//! Fetches and reads the parts of a release. What cannot be read becomes evidence of that.

mod answers;
mod board;
mod configs;
mod containers;
mod mentions;
mod node_content;
mod nodes;
mod proofs;
mod signed;
mod texts;
mod yaml_references;

pub use mentions::mentions;
#[cfg(test)]
pub(crate) use node_content::{Memo, node_facts};
pub use signed::fuzzed_statement;
pub use yaml_references::manifest_mentions;

use lab_oci::images::OciError;

use crate::{
    evidence::{Evidence, Failure, FailureKind},
    gate::GateOptions,
    ledger::Ledger,
    release::Release,
};

/// Looks at all parts of a release.
pub(crate) async fn evidence(
    release: Release,
    before: Option<Ledger>,
    options: &GateOptions<'_>,
    tell: &dyn Fn(String),
) -> Evidence {
    let mut evidence = Evidence {
        now: options.now,
        nodes: nodes::nodes(&release, options, tell).await,
        containers: Vec::new(),
        texts: texts::texts(&release, options, tell).await,
        configs: configs::configs(&release),
        answers: Default::default(),
        proofs: Vec::new(),
        before,
        release,
    };
    evidence.containers = containers::containers(&evidence, options, tell).await;
    evidence.answers = answers::answers(&evidence, options, tell).await;
    evidence.proofs = proofs::proofs(&evidence, options, tell).await;
    // The cache may exceed its bound until the next run.
    let _ = options.looker.prune();
    evidence
}

impl From<OciError> for Failure {
    fn from(error: OciError) -> Self {
        let kind = match error {
            OciError::Platform { .. } => FailureKind::Platform,
            OciError::NotInRegistry { .. } => FailureKind::Missing,
            OciError::Unreachable { .. } | OciError::Refused { .. } | OciError::Credentials { .. } => {
                FailureKind::Unreachable
            }
            OciError::File { .. } | OciError::Lock { .. } => FailureKind::Host,
            _ => FailureKind::Damaged,
        };
        Self { kind, cause: error.to_string() }
    }
}
