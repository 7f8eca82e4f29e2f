//! Rules for registry mirrors.

use std::collections::BTreeMap;

use lab_model::{Diagnostic, Position, Severity, yaml::YamlNode};

use super::{super::config_set::ConfigSet, placeholders::is_template};
use crate::user_config::UserConfig;

/// Finds TLS settings for the host of a plain HTTP mirror. Talos combines both into containerd's host
/// configuration and returns an error (internal/pkg/containers/cri/containerd/hosts.go).
pub fn tls_for_plain_http(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        let plain = plain_hosts(file);
        for (host, place) in tls_hosts(file) {
            let Some(endpoint) = plain.get(host) else { continue };
            findings.push(file.finding(
                Severity::Error,
                "tls-for-plain-http",
                place,
                format!(
                    "{host} has TLS settings, and the mirror {endpoint} speaks plain HTTP; Talos says \"TLS config \
                     specified for non-HTTPS registry\" and no image is pulled"
                ),
                format!("remove the TLS settings of {host}, or make the endpoint https://{host}"),
            ));
        }
    }
}

/// Finds endpoints of mirrors that are not URLs. Talos accepts them, and then its image service fails for every
/// image of the registry (internal/pkg/containers/cri/containerd/hosts.go: url.Parse).
pub fn mirrors_without_scheme(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        for node in endpoints(file) {
            let Some(text) = node.text().filter(|text| !text.is_empty() && !is_template(text)) else {
                continue;
            };
            if text.starts_with("http://") || text.starts_with("https://") {
                continue;
            }
            findings.push(file.finding(
                Severity::Error,
                "mirror-without-scheme",
                node.position,
                format!(
                    "the endpoint {text} of a mirror is not a URL; every image pull from this registry fails"
                ),
                format!("write http://{text} or https://{text}"),
            ));
        }
    }
}

/// Returns the endpoints of all mirrors.
fn endpoints(file: &UserConfig) -> Vec<&YamlNode> {
    let mut endpoints = Vec::new();
    for document in &file.documents {
        for mirror in document.entries_at(&["machine", "registries", "mirrors"]) {
            endpoints.extend(mirror.node.items_at(&["endpoints"]));
        }
        if document.kind() == Some("RegistryMirrorConfig") {
            let items = document.items_at(&["endpoints"]).iter();
            endpoints.extend(items.filter_map(|item| item.get(&["url"])));
        }
    }
    endpoints
}

/// Returns the hosts of plain HTTP endpoints, with the endpoint.
fn plain_hosts(file: &UserConfig) -> BTreeMap<&str, &str> {
    fn host(node: &YamlNode) -> Option<(&str, &str)> {
        let text = node.text()?;
        Some((text.strip_prefix("http://")?.split('/').next()?, text))
    }
    endpoints(file).into_iter().filter_map(host).collect()
}

/// Returns the hosts with non-empty TLS settings.
fn tls_hosts(file: &UserConfig) -> Vec<(&str, Position)> {
    let mut hosts = Vec::new();
    for document in &file.documents {
        for entry in document.entries_at(&["machine", "registries", "config"]) {
            if let Some(tls) = entry.node.get(&["tls"]) {
                hosts.push((entry.key.as_str(), tls.position));
            }
        }
        if document.kind() == Some("RegistryTLSConfig")
            && let Some(name) = document.text_at(&["name"])
        {
            hosts.push((name, document.position));
        }
    }
    hosts
}
