//! Fetches node images, one after the other: each is large, and they share most layers.

use lab_model::Origin;

use super::node_content::{Memo, node_facts};
use crate::{
    evidence::{Failure, NodeEvidence, NodeFacts},
    gate::GateOptions,
    release::{NodePart, NodeVariant, Release},
};

pub(super) async fn nodes(
    release: &Release,
    options: &GateOptions<'_>,
    tell: &dyn Fn(String),
) -> Vec<NodeEvidence> {
    let mut found = Vec::new();
    let mut memo = Memo::default();
    for node in &release.nodes {
        for part in &node.parts {
            tell(format!("{} {}: {}", node.name(), part.form.as_str(), part.source));
            let facts;
            (facts, memo) = one(node, part, options, memo).await;
            found.push(NodeEvidence {
                role: node.role.clone(),
                variant: node.variant.clone(),
                board: node.board.clone(),
                form: part.form,
                source: part.source.to_string(),
                position: part.position,
                facts,
            });
        }
    }
    found
}

async fn one(
    node: &NodeVariant,
    part: &NodePart,
    options: &GateOptions<'_>,
    mut memo: Memo,
) -> (Result<NodeFacts, Failure>, Memo) {
    let resolved = match options.store.resolve(&part.source).await {
        Ok(resolved) => resolved,
        Err(error) => return (Err(error.into()), memo),
    };
    let disks = options.store.disks();
    let scratch = node.board.is_some().then(|| options.looker.manifests());
    let origin = Origin { source: part.source.to_string(), ..resolved.origin };
    let read = tokio::task::spawn_blocking(move || {
        let facts = node_facts(&resolved.path, origin, &disks, scratch.as_deref(), &mut memo);
        (facts, memo)
    });
    read.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
