//! The host ports of the registry mirrors in a machine config.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde_json::Value;

use super::documents::MachineConfig;

/// The default port of an endpoint: that of plain HTTP.
const HTTP_PORT: u16 = 80;

/// Returns the upstreams with plain HTTP mirrors at `host`, by port. Mirrors are in
/// `machine.registries.mirrors`, and since Talos 1.12 in documents of the kind `RegistryMirrorConfig`.
pub fn mirror_ports(config: &MachineConfig, host: Ipv4Addr) -> BTreeMap<u16, BTreeSet<String>> {
    let mut ports: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for document in config.documents() {
        for (upstream, endpoint) in endpoints(document) {
            if let Some(port) = port_at(endpoint, host) {
                ports.entry(port).or_default().insert(upstream.to_owned());
            }
        }
    }
    ports
}

/// Returns the names of all upstreams with mirrors, except `*`.
pub fn mirrored_upstreams(config: &MachineConfig) -> BTreeSet<String> {
    let names = config.documents().iter().flat_map(endpoints).map(|(upstream, _)| upstream.to_owned());
    names.filter(|upstream| upstream != "*").collect()
}

/// Returns each endpoint with its upstream.
fn endpoints(document: &Value) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mirrors = document.pointer("/machine/registries/mirrors").and_then(Value::as_object);
    for (upstream, mirror) in mirrors.into_iter().flatten() {
        let urls = mirror["endpoints"].as_array().into_iter().flatten().filter_map(Value::as_str);
        found.extend(urls.map(|url| (upstream.as_str(), url)));
    }
    if document["kind"] == "RegistryMirrorConfig"
        && let Some(upstream) = document["name"].as_str()
    {
        let urls = document["endpoints"].as_array().into_iter().flatten();
        found.extend(urls.filter_map(|endpoint| endpoint["url"].as_str()).map(|url| (upstream, url)));
    }
    found
}

fn port_at(endpoint: &str, host: Ipv4Addr) -> Option<u16> {
    let authority = endpoint.strip_prefix("http://")?.split('/').next()?;
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (authority, HTTP_PORT),
    };
    (name.parse() == Ok(host)).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_the_gateway_are_found_in_both_places_and_no_others() {
        let text = "machine:\n  registries:\n    mirrors:\n      \
                    docker.io: { endpoints: ['http://10.5.0.1:5050', 'http://10.5.0.9:1'] }\n      \
                    quay.io: { endpoints: ['http://10.5.0.1:5052/v2/quay', 'https://10.5.0.1:2'] }\n      \
                    plain.example: { endpoints: ['http://10.5.0.1'] }\n      \
                    '*': { endpoints: ['http://10.5.0.1:5050', 'http://mirror.example:3'] }\n---\n\
                    apiVersion: v1alpha1\nkind: RegistryMirrorConfig\nname: ghcr.io\nendpoints: [{ url: 'http://10.5.0.1:5054' }]\n---\n\
                    apiVersion: v1alpha1\nkind: HostnameConfig\nname: ghcr.io\nendpoints: [{ url: 'http://10.5.0.1:5055' }]\n";
        let config = MachineConfig::from_yaml(text).expect("config");
        let ports = mirror_ports(&config, Ipv4Addr::new(10, 5, 0, 1));
        let ports: Vec<_> = ports
            .iter()
            .map(|(port, names)| (*port, names.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            ports,
            [
                (80, vec!["plain.example"]),
                (5050, vec!["*", "docker.io"]),
                (5052, vec!["quay.io"]),
                (5054, vec!["ghcr.io"])
            ]
        );
    }
}
