//! What was seen of a release, as plain data. The rules look at nothing else.

mod board;
mod container;
mod failure;
mod node;
mod provenance;
mod text;

use std::collections::BTreeMap;

use lab_model::Digest;

pub use board::{BoardFacts, DeviceTreeFile};
pub use container::{ContainerEvidence, ContainerFacts};
pub use failure::{Failure, FailureKind};
pub use node::{
    ConfigModules, ForeignFile, ModuleFile, ModuleSet, NodeEvidence, NodeFacts, RuntimeFile, ServiceFile,
};
pub use provenance::{Proof, ProofEvidence, ProofKind};
pub use text::{Mention, Mentioned, TextEvidence};

use crate::{
    ledger::Ledger,
    release::{Release, ReleaseTag},
};

/// Everything that was seen of a release.
#[derive(Debug)]
pub struct Evidence {
    pub release: Release,
    /// The time of the check.
    pub now: jiff::Timestamp,
    pub nodes: Vec<NodeEvidence>,
    pub containers: Vec<ContainerEvidence>,
    /// Documents and manifests.
    pub texts: Vec<TextEvidence>,
    /// The modules that machine configs load.
    pub configs: Vec<ConfigModules>,
    /// What registries answered about references of tags: of parts, texts, `latest` and the release before.
    pub answers: BTreeMap<String, Answer>,
    /// Signatures and attestations of the parts, by their digests.
    pub proofs: Vec<ProofEvidence>,
    /// The ledger of the release before.
    pub before: Option<Ledger>,
}

/// The answer of a registry about a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has this digest.
    Has(Digest),
    /// There is no such tag or digest.
    Missing,
    /// The registry could not be asked.
    Unknown(String),
}

impl Evidence {
    /// The node images that could be read, each content once: forms of one image with the same kernel and initramfs
    /// are looked at in their first form.
    pub fn node_contents(&self) -> Vec<(&NodeEvidence, &NodeFacts)> {
        let mut seen = Vec::new();
        let read = self.nodes.iter().filter_map(|node| Some((node, node.facts.as_ref().ok()?)));
        read.filter(|(node, facts)| {
            let key = (&node.role, &node.variant, &facts.inspection.digest);
            let new = !seen.contains(&key);
            seen.push(key);
            new
        })
        .collect()
    }

    /// The tag of the release before that corresponds to a tag of this release.
    pub fn previous_tag(&self, tag: &str) -> Option<String> {
        let named = self.release.previous.clone().or_else(|| Some(self.before.as_ref()?.release.clone()))?;
        let variant = ReleaseTag::parse(tag).map(|tag| tag.variant).filter(|variant| !variant.is_empty());
        let tag_before = variant.map_or(named.clone(), |variant| format!("{named}-{variant}"));
        (tag_before != tag).then_some(tag_before)
    }

    /// The container images that could be read.
    pub fn read_containers(&self) -> impl Iterator<Item = (&ContainerEvidence, &ContainerFacts)> {
        self.containers.iter().filter_map(|container| Some((container, container.facts.as_ref().ok()?)))
    }
}
