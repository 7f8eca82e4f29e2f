//! Small releases for the tests of the rules. Node images are written to disk and read by the same code as real ones.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use lab_image::{DiskCache, ElfHead};
use lab_image_fixtures::SmallNode;
use lab_model::{Digest, Origin, Position, node::Role};
use lab_oci::{
    containers::{ContainerImage, LayerEntry, LayerFacts, Script},
    images::Command,
};

use super::Rule;
use crate::{
    evidence::{ContainerEvidence, ContainerFacts, Evidence, NodeEvidence, TextEvidence},
    gather::{Memo, manifest_mentions, mentions, node_facts},
    release::{Form, Release, RoleRule},
};

pub use lab_image_fixtures::{
    BUILD_KEY as KEY, KERNEL_RELEASE as RELEASE, KERNEL_VERMAGIC as VERMAGIC, containerd,
};

/// A node image, good unless a test changes it.
pub struct Node {
    role: String,
    source: Option<String>,
    form: Form,
    board: Option<String>,
    created: Option<String>,
    image: SmallNode,
}

impl Node {
    pub fn new(role: &str) -> Self {
        let image = SmallNode::default();
        Self { role: role.to_owned(), source: None, form: Form::Image, board: None, created: None, image }
    }

    pub fn source(self, source: &str) -> Self {
        Self { source: Some(source.to_owned()), ..self }
    }

    pub fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    pub fn board(self, board: &str) -> Self {
        Self { board: Some(board.to_owned()), ..self }
    }

    pub fn created(self, created: &str) -> Self {
        Self { created: Some(created.to_owned()), ..self }
    }

    pub fn kernel(self, kernel: Vec<u8>) -> Self {
        Self { image: self.image.kernel(kernel), ..self }
    }

    pub fn root(self, path: &str, content: &[u8]) -> Self {
        Self { image: self.image.root(path, content), ..self }
    }

    pub fn without(self, ending: &str) -> Self {
        Self { image: self.image.without(ending), ..self }
    }

    pub fn extension(self, metadata: &str, files: &[(&str, &[u8])]) -> Self {
        Self { image: self.image.extension(metadata, files), ..self }
    }

    pub fn squashed_at(self, time: u32) -> Self {
        Self { image: self.image.squashed_at(time), ..self }
    }

    /// Writes the image, and reads it.
    pub fn read(self) -> NodeEvidence {
        let directory = tempfile::tempdir().expect("tempdir");
        let boot = self.image.boot_files();
        std::fs::write(directory.path().join("vmlinuz"), boot.kernel).expect("write");
        std::fs::write(directory.path().join("initramfs.xz"), boot.initramfs).expect("write");
        let source = self.source.unwrap_or_else(|| self.role.clone());
        let origin = Origin {
            digest: Some(Digest::of_bytes(source.as_bytes())),
            source: source.clone(),
            created: self.created,
            mutable: true,
            ..Origin::default()
        };
        let facts = node_facts(directory.path(), origin, &DiskCache::unused(), None, &mut Memo::default());
        NodeEvidence {
            role: Role::new(self.role.as_str()).expect("role"),
            variant: "metal".into(),
            board: self.board,
            form: self.form,
            source,
            position: Position::START,
            facts: Ok(facts.expect("facts")),
        }
    }
}

/// A release of these node images.
pub fn evidence(nodes: Vec<NodeEvidence>) -> Evidence {
    let text = "release: v1.5.1-1.13.5-4\nnodes: [{ role: compute, image: ./x }]\n";
    Evidence {
        release: Release::parse("release.yaml", text, Path::new("."), &[]).expect("release"),
        now: "2026-06-01T00:00:00Z".parse().expect("time"),
        nodes,
        containers: Vec::new(),
        texts: Vec::new(),
        configs: Vec::new(),
        answers: BTreeMap::new(),
        proofs: Vec::new(),
        before: None,
    }
}

/// Names the extensions of a role.
pub fn name_extensions(evidence: &mut Evidence, role: &str, names: &[&str]) {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let role = Role::new(role).expect("role");
    evidence.release.roles.insert(role, RoleRule { extensions: Some(names) });
}

/// What a rule finds: place and cause.
pub fn found(rule: &Rule, evidence: &Evidence) -> Vec<String> {
    (rule.look)(evidence).findings.iter().map(|finding| finding.without_help().to_string()).collect()
}

/// A container image with one layer: these programs, and the wrapper `/start.sh`, which starts `/app`.
pub fn container(source: &str, entrypoint: &[&str], programs: &[(&str, u16)]) -> ContainerEvidence {
    let program =
        |machine| LayerEntry::Program { head: ElfHead { machine, is_program: true }, executable: true };
    let mut entries: BTreeMap<_, _> =
        programs.iter().map(|(path, machine)| ((*path).to_owned(), program(*machine))).collect();
    let wrapper = Script::parse(b"#!/bin/sh\nexec /app\n").expect("script");
    entries.insert("start.sh".into(), LayerEntry::Script(wrapper));
    let layer = LayerFacts { files: entries.len() as u64, entries, ..LayerFacts::default() };
    let words = entrypoint.iter().map(|word| (*word).to_owned()).collect();
    let image = ContainerImage {
        digest: Digest::of_bytes(source.as_bytes()),
        image: Digest::of_bytes(b"image"),
        platforms: Vec::new(),
        created: None,
        architecture: Some("arm64".into()),
        os: Some("linux".into()),
        config_type: None,
        command: Command { entrypoint: Some(words), working_dir: Some("/srv".into()), ..Command::default() },
        layers: vec![Arc::new(layer)],
        bytes: 1,
        read: 1,
    };
    let facts = ContainerFacts { programs: image.programs(), image };
    ContainerEvidence { source: source.to_owned(), named_by: "release.yaml:1".into(), facts: Ok(facts) }
}

pub fn document(file: &str, text: &str) -> TextEvidence {
    TextEvidence { file: file.to_owned(), is_manifest: false, mentions: Ok(mentions(text)) }
}

pub fn manifest(file: &str, text: &str) -> TextEvidence {
    TextEvidence { file: file.to_owned(), is_manifest: true, mentions: Ok(manifest_mentions(file, text)) }
}
