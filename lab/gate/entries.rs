//! Writes what was seen of a release into its ledger.

use lab_oci::containers::ImageKind;

use crate::{
    evidence::{ContainerEvidence, Evidence, NodeEvidence},
    ledger::{Ledger, LedgerPart},
};

impl Ledger {
    /// Writes down what was seen.
    pub fn of(evidence: &Evidence) -> Self {
        let mut parts: Vec<_> = evidence.nodes.iter().map(node).collect();
        parts.extend(evidence.containers.iter().map(container));
        for part in &mut parts {
            let of_part = evidence.proofs.iter().filter(|proof| proof.source == part.source);
            let valid = of_part
                .filter_map(|part| part.proofs.as_ref().ok())
                .flatten()
                .filter(|proof| proof.verified.is_ok());
            part.proofs =
                valid.map(|proof| format!("{} {}", proof.kind, proof.predicate).trim().to_owned()).collect();
        }
        Self {
            form: Self::FORM,
            release: evidence.release.name.clone(),
            checked: evidence.now,
            lab: env!("CARGO_PKG_VERSION").to_owned(),
            parts,
        }
    }
}

fn node(node: &NodeEvidence) -> LedgerPart {
    let part = LedgerPart {
        part: format!("{}/{} {}", node.role, node.variant, node.form.as_str()),
        source: node.source.clone(),
        ..LedgerPart::default()
    };
    match &node.facts {
        Err(failure) => LedgerPart { failure: Some(failure.cause.clone()), ..part },
        Ok(facts) => {
            let inspection = &facts.inspection;
            let extension =
                |extension: &lab_image::Extension| format!("{} {}", extension.name, extension.version);
            LedgerPart {
                digest: Some(facts.origin.digest.as_ref().unwrap_or(&inspection.digest).to_string()),
                bytes: inspection.kernel_bytes.0 + inspection.initramfs_bytes.0,
                created: facts.origin.created.clone(),
                architecture: vec![
                    format!("kernel for {}", inspection.architecture),
                    programs(facts.native, facts.foreign.len()),
                ],
                kernel: inspection.kernel_version.clone(),
                software: inspection.contents.node_version.clone(),
                extensions: inspection.contents.extensions.iter().map(extension).collect(),
                ..part
            }
        }
    }
}

fn programs(native: usize, foreign: usize) -> String {
    format!("{native} programs for arm64, {foreign} for others")
}

fn container(container: &ContainerEvidence) -> LedgerPart {
    let part = LedgerPart {
        part: format!("container {}", lab_model::reference::name_of(&container.source)),
        source: container.source.clone(),
        ..LedgerPart::default()
    };
    match &container.facts {
        Err(failure) => LedgerPart { failure: Some(failure.cause.clone()), ..part },
        Ok(facts) => {
            let (image, seen) = (&facts.image, &facts.programs);
            let mut architecture = Vec::new();
            if !image.platforms.is_empty() {
                architecture.push(format!("index with {}", image.platforms.join(", ")));
            }
            if let Some(named) = &image.architecture {
                architecture.push(format!("config {named}"));
            }
            architecture.push(match seen.kind {
                ImageKind::Programs => programs(seen.native, seen.foreign.len()),
                ImageKind::Scripts => "scripts alone".to_owned(),
                ImageKind::Data => "data alone".to_owned(),
                ImageKind::Wasm => "WebAssembly".to_owned(),
                ImageKind::Artefact => "an artefact, not an image".to_owned(),
            });
            if !seen.chain.is_empty() {
                architecture.push(format!("entrypoint {}", seen.chain.join(" → ")));
            }
            LedgerPart {
                digest: Some(image.digest.to_string()),
                bytes: image.bytes,
                created: image.created.clone(),
                architecture,
                ..part
            }
        }
    }
}
