//! Rules for networks, the endpoint and KubeSpan.

use std::net::IpAddr;

use ipnet::IpNet;
use lab_model::{Diagnostic, Severity, node::Kind, yaml::YamlNode};

use super::{super::config_set::ConfigSet, placeholders::is_template};
use crate::{
    cluster::TAILNET,
    tailnet::overlap,
    user_config::{ClusterNetwork, UserConfig, cluster_networks, endpoint_host, machine_kind},
};

/// Returns the valid networks of a config.
pub fn named(config: &YamlNode) -> Vec<(ClusterNetwork<'_>, IpNet)> {
    cluster_networks(config).filter_map(|named| named.network.map(|network| (named, network))).collect()
}

/// Finds networks that are invalid, overlap, have different address families, or overlap with the
/// tailnet's range.
pub fn networks(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        malformed(file, config, findings);
        let named = named(config);
        for (ClusterNetwork { name, node, .. }, network) in &named {
            if overlap(*network, IpNet::V4(TAILNET)) {
                findings.push(file.finding(
                    Severity::Error,
                    "network-of-the-tailnet",
                    node.position,
                    format!("the {name} network {network} is inside {TAILNET}, the range of tailnet addresses; tailscale drops such packets from other interfaces"),
                    "choose a network outside this range, such as 10.244.0.0/16 for pods and 10.96.0.0/12 for services",
                ));
            }
        }
        for (index, (one, one_network)) in named.iter().enumerate() {
            for (other, other_network) in &named[index + 1..] {
                if overlap(*one_network, *other_network) {
                    findings.push(file.finding(
                        Severity::Error,
                        "networks-overlap",
                        other.node.position,
                        format!(
                            "the {} network {other_network} overlaps the {} network {one_network}",
                            other.name, one.name
                        ),
                        "choose networks that share no address",
                    ));
                }
            }
        }
        families(file, config, &named, findings);
    }
}

fn malformed(file: &UserConfig, config: &YamlNode, findings: &mut Vec<Diagnostic>) {
    for ClusterNetwork { name, network, text, node } in cluster_networks(config) {
        let problem = match network {
            _ if is_template(text) => continue,
            Some(network) if network == network.trunc() => continue,
            Some(network) => format!("has bits set behind its prefix; write {}", network.trunc()),
            None => "is not a network".into(),
        };
        findings.push(file.finding(
            Severity::Error,
            "no-network",
            node.position,
            format!("the {name} network \"{text}\" {problem}"),
            "write an address and a prefix length, as 10.244.0.0/16",
        ));
    }
}

/// Checks that pods, services and the endpoint address have the same address families.
fn families(
    file: &UserConfig,
    config: &YamlNode,
    named: &[(ClusterNetwork<'_>, IpNet)],
    findings: &mut Vec<Diagnostic>,
) {
    let of = |name: &str| {
        let mut families: Vec<_> =
            named.iter().filter(|(n, _)| n.name == name).map(|(_, net)| net.addr().is_ipv6()).collect();
        families.sort_unstable();
        families.dedup();
        families
    };
    let (pods, services) = (of("pod"), of("service"));
    let words = |families: &[bool]| {
        families.iter().map(|six| if *six { "IPv6" } else { "IPv4" }).collect::<Vec<_>>().join(" and ")
    };
    if let Some((service, _)) = named.iter().find(|(n, _)| n.name == "service")
        && !pods.is_empty()
        && pods != services
    {
        findings.push(file.finding(
            Severity::Error,
            "families-mixed",
            service.node.position,
            format!(
                "pods have {} addresses and services {}; the API server refuses to start",
                words(&pods),
                words(&services)
            ),
            "give both the same families, in the same order",
        ));
    }
    if let Some((address, node)) = endpoint_address(config)
        && let Some((first, first_network)) = named.first()
        && !named.iter().any(|(_, network)| network.addr().is_ipv6() == address.is_ipv6())
    {
        findings.push(file.finding(
            Severity::Warning,
            "families-mixed",
            node.position,
            format!(
                "the endpoint {address} and the {} network {first_network} are of different families",
                first.name
            ),
            "check that nodes have addresses of both families, or use one family throughout",
        ));
    }
}

/// Returns the address in the control plane's endpoint. Returns `None` for a host name.
fn endpoint_address(config: &YamlNode) -> Option<(IpAddr, &YamlNode)> {
    let node = config.get(&["cluster", "controlPlane", "endpoint"])?;
    let host = endpoint_host(node.text()?)?;
    Some((host.parse().ok()?, node))
}

/// Finds an endpoint address that does not belong to a control plane, if the files contain all addresses.
pub fn endpoint(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    let mut owned = Vec::new();
    let mut all_known = true;
    let control_planes =
        set.machines().filter(|(_, config)| machine_kind(config) == Some(Kind::ControlPlane));
    for (file, config) in control_planes {
        let addresses: Vec<_> = addresses(file).collect();
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
        // A host name may refer to a load balancer. A literal address must belong to a machine.
        let unowned = is_address && all_known && !owned.is_empty() && !owned.contains(&host);
        if loopback || unowned {
            findings.push(file.finding(
                Severity::Error,
                "endpoint-without-node",
                node.position,
                if loopback {
                    format!("the endpoint {host} is a loopback address; workers will not find the control plane")
                } else {
                    format!("no control plane in these files owns the endpoint {host}: it is not an address, vip or certificate name of a control plane")
                },
                "use an address or vip of a control plane, or add the load balancer's name to machine.certSANs and cluster.apiServer.certSANs",
            ));
        }
    }
}

/// Returns the static and shared addresses of the machine in a file, without prefix lengths.
fn addresses(file: &UserConfig) -> impl Iterator<Item = &str> {
    let addresses = file.static_addresses().chain(file.shared_addresses());
    addresses.map(|text| text.split('/').next().unwrap_or(text))
}

fn texts<'a>(node: &'a YamlNode, path: &[&str]) -> impl Iterator<Item = &'a str> {
    node.items_at(path).iter().filter_map(YamlNode::text)
}

/// Checks that discovery is enabled, because KubeSpan finds its peers by discovery.
pub fn kubespan(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        let discovery =
            file.documents.iter().find_map(|document| document.get(&["cluster", "discovery", "enabled"]));
        let (Some(on), Some(discovery)) = (file.kubespan(), discovery) else { continue };
        if discovery.is_true() {
            continue;
        }
        findings.push(file.finding(
            Severity::Error,
            "kubespan-without-discovery",
            on.position,
            "KubeSpan is on and discovery is off; Talos says \".cluster.discovery should be enabled when \
             .machine.network.kubespan is enabled\"",
            "switch discovery on, or KubeSpan off; without the internet, off",
        ));
    }
}
