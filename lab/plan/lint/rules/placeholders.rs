//! Placeholders that were not filled in.

use base64::Engine;
use lab_model::{
    Diagnostic, Severity,
    yaml::{YamlNode, YamlValue},
};

use super::super::config_set::ConfigSet;

/// Finds `${NAME}` and `{{ .Name }}` of shells and templates. Ignores file contents, where such text may
/// be intended.
pub fn unexpanded(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        for document in &file.documents {
            document.each_scalar(&mut |path, node| {
                let YamlValue::Scalar { text, block: false, .. } = &node.value else { return };
                let Some(mark) = mark(text) else { return };
                findings.push(file.finding(
                    Severity::Error,
                    "placeholder",
                    node.position,
                    format!("{path} still contains the placeholder {mark}"),
                    "render the template, or set the variable, and check the result",
                ));
            });
        }
    }
}

/// Returns whether a value is an unexpanded template, which other rules ignore.
pub fn is_template(text: &str) -> bool {
    text.contains("${") || text.contains("{{")
}

/// Returns the first placeholder in a text.
fn mark(text: &str) -> Option<String> {
    for (begin, end) in [("${", "}"), ("{{", "}}"), ("<REPLACE", ">"), ("CHANGEME", "")] {
        if let Some(start) = text.find(begin) {
            let rest = &text[start..];
            let length = rest
                .find(end)
                .filter(|length| !end.is_empty() && *length < 60)
                .map_or(begin.len(), |at| at + end.len());
            return Some(rest[..length].to_owned());
        }
    }
    None
}

/// Finds empty secrets that are required to join a cluster.
pub fn empty_secrets(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        for path in [["machine", "token"], ["cluster", "token"], ["cluster", "secret"], ["cluster", "id"]] {
            let Some(parent) = config.get(&path[..1]) else { continue };
            let Some(entry) = parent.entries().iter().find(|entry| entry.key == path[1]) else { continue };
            if !entry.node.is_nothing() && entry.node.text() != Some("") {
                continue;
            }
            findings.push(file.finding(
                Severity::Error,
                "empty-secret",
                entry.position,
                format!("{} is empty; nodes of this cluster will not trust each other", path.join(".")),
                "generate the configs from one secrets bundle: talosctl gen secrets, talosctl gen config --with-secrets",
            ));
        }
    }
}

/// Finds CA values that are not certificates.
pub fn certificates(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        let paths: [&[&str]; 4] = [
            &["machine", "ca", "crt"],
            &["cluster", "ca", "crt"],
            &["cluster", "aggregatorCA", "crt"],
            &["cluster", "etcd", "ca", "crt"],
        ];
        for path in paths {
            let Some(certificate) = config.get(path) else { continue };
            let Some(problem) = no_certificate(certificate) else { continue };
            findings.push(file.finding(
                Severity::Error,
                "no-certificate",
                certificate.position,
                format!("{} is not a certificate: {problem}", path.join(".")),
                "take it from a secrets bundle: talosctl gen secrets",
            ));
        }
    }
}

/// Returns the reason that a value is not a base64-encoded PEM certificate, the format of Talos.
fn no_certificate(node: &YamlNode) -> Option<String> {
    let text = node.text().unwrap_or_default().trim();
    if mark(text).is_some() {
        // Another rule reports this.
        return None;
    }
    let Ok(pem) = base64::engine::general_purpose::STANDARD.decode(text) else {
        return Some("not base64".into());
    };
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(&pem) else {
        return Some("not PEM, once the base64 is taken off".into());
    };
    match block.parse_x509() {
        Ok(_) => None,
        Err(_) => Some(format!("its PEM block \"{}\" is not an X.509 certificate", block.label)),
    }
}

/// Finds configs that the node would not persist.
pub fn not_persisted(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        let Some(persist) = config.get(&["persist"]) else { continue };
        if persist.is_true() {
            continue;
        }
        findings.push(file.finding(
            Severity::Error,
            "not-persisted",
            persist.position,
            "persist is off; Talos says \".persist should be enabled\" and refuses the config",
            "remove the line: it is on by default",
        ));
    }
}
