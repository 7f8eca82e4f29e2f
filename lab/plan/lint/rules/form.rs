//! Rules for keys, kinds and types.

use std::collections::BTreeMap;

use lab_model::{Diagnostic, Severity, words::choice};

use super::super::config_set::ConfigSet;
use crate::user_config::machine_kind;

/// The valid values of `machine.type`.
const MACHINE_TYPES: [&str; 2] = ["controlplane", "worker"];

/// Finds keys that the Talos version does not support, and values of the wrong type.
pub fn keys(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        for document in &file.documents {
            let found = set.schema.check(document);
            findings.extend(found.into_iter().map(|finding| finding.in_file(&file.name)));
        }
    }
}

/// Finds invalid machine types.
pub fn machine_types(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        let Some(node) = config.get(&["machine", "type"]) else { continue };
        let Some(text) = node.text().filter(|_| machine_kind(config).is_none()) else { continue };
        findings.push(file.finding(
            Severity::Error,
            "machine-type",
            node.position,
            format!("\"{text}\" is not a machine type"),
            choice(text, &MACHINE_TYPES, "types").unwrap_or_default(),
        ));
    }
}

/// Finds duplicate documents of the same kind and name in one file.
pub fn documents_once(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        let mut seen = BTreeMap::new();
        for document in &file.documents {
            let kind = document.kind().unwrap_or("machine config");
            let name = document.text_at(&["name"]).unwrap_or_default();
            let Some(first) = seen.insert((kind, name), document.position) else { continue };
            findings.push(file.finding(
                Severity::Error,
                "document-twice",
                document.position,
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
