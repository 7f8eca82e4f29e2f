//! Secrets that are empty or invalid.

use base64::Engine;
use lab_model::{Diagnostic, Severity, yaml::YamlNode};

use super::{super::config_set::ConfigSet, placeholders::is_template};

/// Finds empty secrets in whole configs, which nodes need to join a cluster. In patches they change nothing.
pub fn empty_secrets(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        // Only a config has both; a patch says what is to change.
        let whole = config.text_at(&["machine", "type"]).is_some_and(|text| !text.is_empty())
            && config.get(&["cluster", "controlPlane", "endpoint"]).is_some();
        if !whole {
            continue;
        }
        for path in [["machine", "token"], ["cluster", "token"]] {
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
    // An empty text changes nothing in a patch. Another rule reports placeholders, and the library what is
    // not base64.
    if text.is_empty() || is_template(text) {
        return None;
    }
    let pem = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(&pem) else {
        return Some("not PEM, once the base64 is taken off".into());
    };
    match block.parse_x509() {
        Ok(_) => None,
        Err(_) => Some(format!("its PEM block \"{}\" is not an X.509 certificate", block.label)),
    }
}
