//! Keys, kinds and types.

use std::collections::BTreeMap;

use lab_model::{Severity, words::choice};

use super::super::{
    config_set::{ConfigSet, machine_type},
    finding::Finding,
    schema::Misfit,
};

/// What `machine.type` should be.
const MACHINE_TYPES: [&str; 2] = ["controlplane", "worker"];

/// What the Talos version does not know, and what has another shape.
pub fn keys(set: &ConfigSet, findings: &mut Vec<Finding>) {
    for file in &set.files {
        for misfit in file.documents.iter().flat_map(|document| set.schema.misfits(document)) {
            findings.push(match misfit {
                Misfit::UnknownKey { place, path, help } => file.finding(
                    Severity::Error,
                    "unknown-key",
                    place,
                    format!(
                        "Talos does not know the key {path}; it says \"unknown keys found during decoding\""
                    ),
                    help,
                ),
                Misfit::WrongType { place, path, expected, found } => file.finding(
                    Severity::Error,
                    "wrong-type",
                    place,
                    format!("{path} is {found}; Talos cannot unmarshal it"),
                    format!("write {expected}"),
                ),
                Misfit::UnknownKind { place, kind, help } => file.finding(
                    Severity::Error,
                    "unknown-kind",
                    place,
                    format!("there is no document of the kind {kind}; Talos says \"not registered\""),
                    help,
                ),
            });
        }
    }
}

/// A machine type that is none.
pub fn machine_types(set: &ConfigSet, findings: &mut Vec<Finding>) {
    for (file, config) in set.machines() {
        let Some(node) = config.get(&["machine", "type"]) else { continue };
        let Some(text) = node.text().filter(|_| machine_type(config).is_none()) else { continue };
        findings.push(file.finding(
            Severity::Error,
            "machine-type",
            node.place,
            format!("\"{text}\" is no type of machine"),
            choice(text, &MACHINE_TYPES, "types").unwrap_or_default(),
        ));
    }
}

/// Two documents of one kind and name in one file.
pub fn documents_once(set: &ConfigSet, findings: &mut Vec<Finding>) {
    for file in &set.files {
        let mut seen = BTreeMap::new();
        for document in &file.documents {
            let kind = document.kind().unwrap_or("machine config");
            let name = document.text_at(&["name"]).unwrap_or_default();
            let Some(first) = seen.insert((kind, name), document.place) else { continue };
            findings.push(file.finding(
                Severity::Error,
                "document-twice",
                document.place,
                format!(
                    "a second {kind} document{}; the first begins at line {}",
                    if name.is_empty() { String::new() } else { format!(" named {name}") },
                    first.line
                ),
                "keep one of them, or give them different names",
            ));
        }
    }
}
