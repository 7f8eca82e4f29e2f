//! Networks, the endpoint, KubeSpan.

use std::net::IpAddr;

use ipnet::IpNet;
use lab_model::Severity;

use super::{
    super::{
        config_set::{ConfigFile, ConfigSet, MachineType, machine_type},
        finding::Finding,
        tree::Node,
    },
    placeholders::is_template,
};
use crate::{cluster::TAILNET, tailnet::overlap};

/// The two networks of a cluster, with what a person calls them.
pub const NETWORKS: [(&str, &str); 2] = [("pod", "podSubnets"), ("service", "serviceSubnets")];

/// A network that a config names.
pub struct Named<'a> {
    /// "pod" or "service".
    pub name: &'static str,
    /// The network.
    pub network: IpNet,
    /// Where it stands.
    pub node: &'a Node,
}

/// The networks of a config that can be read.
pub fn named(config: &Node) -> Vec<Named<'_>> {
    let mut found = Vec::new();
    for (name, key) in NETWORKS {
        for node in config.items_at(&["cluster", "network", key]) {
            if let Some(network) = node.text().and_then(|text| text.parse().ok()) {
                found.push(Named { name, network, node });
            }
        }
    }
    found
}

/// Networks that are none, overlap, are of different families, or lie in the tailnet's range.
pub fn networks(set: &ConfigSet, findings: &mut Vec<Finding>) {
    for (file, config) in set.machines() {
        malformed(file, config, findings);
        let named = named(config);
        for Named { name, network, node } in &named {
            if overlap(*network, IpNet::V4(TAILNET)) {
                findings.push(file.finding(
                    Severity::Error,
                    "network-of-the-tailnet",
                    node.place,
                    format!("the {name} network {network} lies in {TAILNET}, where tailnet addresses come from; tailscale drops such packets from other interfaces"),
                    "choose a network outside of it, such as 10.244.0.0/16 for pods and 10.96.0.0/12 for services",
                ));
            }
        }
        for (index, one) in named.iter().enumerate() {
            for other in &named[index + 1..] {
                if overlap(one.network, other.network) {
                    findings.push(file.finding(
                        Severity::Error,
                        "networks-overlap",
                        other.node.place,
                        format!(
                            "the {} network {} overlaps the {} network {}",
                            other.name, other.network, one.name, one.network
                        ),
                        "choose networks that share no address",
                    ));
                }
            }
        }
        families(file, config, &named, findings);
    }
}

fn malformed(file: &ConfigFile, config: &Node, findings: &mut Vec<Finding>) {
    for (name, key) in NETWORKS {
        for node in config.items_at(&["cluster", "network", key]) {
            let Some(text) = node.text().filter(|text| !is_template(text)) else {
                continue;
            };
            let problem = match text.parse::<IpNet>() {
                Ok(network) if network == network.trunc() => continue,
                Ok(network) => format!("has bits behind its prefix; {} is meant", network.trunc()),
                Err(_) => "is no network".into(),
            };
            findings.push(file.finding(
                Severity::Error,
                "no-network",
                node.place,
                format!("the {name} network \"{text}\" {problem}"),
                "write an address and a prefix length, as 10.244.0.0/16",
            ));
        }
    }
}

/// Pods and services, and the endpoint's address, must be of the same families of addresses.
fn families(file: &ConfigFile, config: &Node, named: &[Named<'_>], findings: &mut Vec<Finding>) {
    let of = |name: &str| {
        let mut families: Vec<_> =
            named.iter().filter(|n| n.name == name).map(|n| n.network.addr().is_ipv6()).collect();
        families.sort_unstable();
        families.dedup();
        families
    };
    let (pods, services) = (of("pod"), of("service"));
    let words = |families: &[bool]| {
        families.iter().map(|six| if *six { "IPv6" } else { "IPv4" }).collect::<Vec<_>>().join(" and ")
    };
    if let Some(service) = named.iter().find(|n| n.name == "service")
        && !pods.is_empty()
        && pods != services
    {
        findings.push(file.finding(
            Severity::Error,
            "families-mixed",
            service.node.place,
            format!(
                "pods have {} addresses and services {}; the API server refuses to start",
                words(&pods),
                words(&services)
            ),
            "give both the same families, in the same order",
        ));
    }
    if let Some((address, node)) = endpoint_address(config)
        && let Some(first) = named.first()
        && !named.iter().any(|n| n.network.addr().is_ipv6() == address.is_ipv6())
    {
        findings.push(file.finding(
            Severity::Warning,
            "families-mixed",
            node.place,
            format!(
                "the endpoint {address} and the {} network {} are of different families",
                first.name, first.network
            ),
            "check that nodes have addresses of both families, or use one family throughout",
        ));
    }
}

/// The address in the control plane's endpoint, when it is one.
fn endpoint_address(config: &Node) -> Option<(IpAddr, &Node)> {
    let node = config.get(&["cluster", "controlPlane", "endpoint"])?;
    let host = endpoint_host(node.text()?)?;
    Some((host.parse().ok()?, node))
}

/// The host of `https://HOST:PORT`, without an IPv6 address's brackets.
fn endpoint_host(text: &str) -> Option<&str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.rsplit_once(':').map_or(Some(authority), |(host, _)| Some(host)),
    }
}

/// An endpoint that no control plane owns, as far as the files tell their addresses.
pub fn endpoint(set: &ConfigSet, findings: &mut Vec<Finding>) {
    let mut owned = Vec::new();
    let mut all_known = true;
    let control_planes =
        set.machines().filter(|(_, config)| machine_type(config) == Some(MachineType::ControlPlane));
    for (file, config) in control_planes {
        let addresses = addresses(file);
        all_known &= !addresses.is_empty();
        owned.extend(addresses);
        owned.extend(texts(config, &["machine", "certSANs"]));
        owned.extend(texts(config, &["cluster", "apiServer", "certSANs"]));
    }
    for (file, config) in set.machines() {
        let Some(node) = config.get(&["cluster", "controlPlane", "endpoint"]) else { continue };
        let Some(host) = node.text().and_then(endpoint_host) else { continue };
        if is_template(host) {
            continue;
        }
        let loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_address = host.parse::<IpAddr>().is_ok();
        // A name may be a load balancer's; an address that is given must be somebody's.
        let nobodys = is_address && all_known && !owned.is_empty() && !owned.contains(&host);
        if loopback || nobodys {
            findings.push(file.finding(
                Severity::Error,
                "endpoint-of-nobody",
                node.place,
                if loopback {
                    format!("the endpoint {host} is each node itself; workers will not find the control plane")
                } else {
                    format!("no control plane in these files owns the endpoint {host}: it is no address, vip or certificate name of theirs")
                },
                "use an address or vip of a control plane, or add the load balancer's name to machine.certSANs and cluster.apiServer.certSANs",
            ));
        }
    }
}

/// Static addresses and shared addresses that a file gives its machine, without prefix lengths.
fn addresses(file: &ConfigFile) -> Vec<&str> {
    let mut found = Vec::new();
    for document in &file.documents {
        for interface in document.items_at(&["machine", "network", "interfaces"]) {
            found.extend(texts(interface, &["addresses"]));
            found.extend(interface.text_at(&["vip", "ip"]));
        }
        match document.kind() {
            Some("LinkConfig") => {
                let items = document.items_at(&["addresses"]).iter();
                found.extend(items.filter_map(|item| item.text_at(&["address"])));
            }
            Some("Layer2VIPConfig") => found.extend(document.text_at(&["name"])),
            _ => {}
        }
    }
    found.into_iter().map(|text| text.split('/').next().unwrap_or(text)).collect()
}

fn texts<'a>(node: &'a Node, path: &[&str]) -> impl Iterator<Item = &'a str> {
    node.items_at(path).iter().filter_map(Node::text)
}

/// KubeSpan finds its peers by discovery.
pub fn kubespan(set: &ConfigSet, findings: &mut Vec<Finding>) {
    for file in &set.files {
        let on = file.documents.iter().find_map(|document| {
            let enabled = match document.kind() {
                None => document.get(&["machine", "network", "kubespan", "enabled"]),
                Some("KubeSpanConfig") => document.get(&["enabled"]),
                Some(_) => None,
            };
            enabled.filter(|node| node.is_true())
        });
        let discovery =
            file.documents.iter().find_map(|document| document.get(&["cluster", "discovery", "enabled"]));
        let (Some(on), Some(discovery)) = (on, discovery) else { continue };
        if discovery.is_true() {
            continue;
        }
        findings.push(file.finding(
            Severity::Error,
            "kubespan-without-discovery",
            on.place,
            "KubeSpan is on and discovery is off; Talos says \".cluster.discovery should be enabled when \
             .machine.network.kubespan is enabled\"",
            "switch discovery on, or KubeSpan off; without the internet, off",
        ));
    }
}
