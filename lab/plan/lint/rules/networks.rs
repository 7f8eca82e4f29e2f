//! Rules for networks, addresses and the endpoint.

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

/// Finds networks that are invalid, overlap, have different address families, or overlap with the tailnet's
/// range.
pub fn networks(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        malformed(file, config, findings);
        let named = named(config);
        for (ClusterNetwork { name, node, .. }, network) in &named {
            if overlap(*network, IpNet::V4(TAILNET)) {
                findings.push(file.finding(
                    Severity::Warning,
                    "network-of-the-tailnet",
                    node.position,
                    format!("the {name} network {network} is inside {TAILNET}, the range of tailnet addresses; a node with tailscale drops such packets from other interfaces"),
                    "choose a network outside this range, such as 10.244.0.0/16 for pods and 10.96.0.0/12 for services",
                ));
            }
        }
        for (index, (one, one_network)) in named.iter().enumerate() {
            for (other, other_network) in &named[index + 1..] {
                if overlap(*one_network, *other_network) {
                    findings.push(file.finding(
                        Severity::Warning,
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
        let (severity, problem) = match network {
            _ if is_template(text) => continue,
            Some(network) if network == network.trunc() => continue,
            // The programs of Kubernetes ignore these bits.
            Some(network) => {
                (Severity::Warning, format!("has bits set behind its prefix; write {}", network.trunc()))
            }
            None => (Severity::Error, "is not a network".into()),
        };
        findings.push(file.finding(
            severity,
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
        && services.iter().any(|family| !pods.contains(family))
    {
        findings.push(file.finding(
            Severity::Warning,
            "families-mixed",
            service.node.position,
            format!(
                "services have {} addresses and pods {}; no pod can answer for a service of the other family",
                words(&services),
                words(&pods)
            ),
            "give the pods every family of the services",
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

/// Finds a loopback endpoint in the config of a worker, and an endpoint address that no control
/// plane has, if the files contain all their addresses. That may be a load balancer's.
pub fn endpoint(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    let mut owned = Vec::new();
    let mut all_known = true;
    let control_planes =
        set.machines().filter(|(_, config)| machine_kind(config) == Some(Kind::ControlPlane));
    for (file, config) in control_planes {
        let of_file = Addresses::of(file);
        all_known &= of_file.all && !of_file.fixed.is_empty();
        owned.extend(of_file.fixed);
        owned.extend(names(config, &["machine", "certSANs"]));
        owned.extend(names(config, &["cluster", "apiServer", "certSANs"]));
    }
    for (file, config) in set.machines() {
        let Some(node) = config.get(&["cluster", "controlPlane", "endpoint"]) else { continue };
        let Some(host) = node.text().and_then(endpoint_host) else { continue };
        if is_template(host) {
            continue;
        }
        let address = host.parse::<IpAddr>().ok();
        let worker = machine_kind(config) == Some(Kind::Worker);
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            findings.push(file.finding(
                if worker { Severity::Error } else { Severity::Warning },
                "endpoint-without-node",
                node.position,
                format!("the endpoint {host} is a loopback address; workers will not find the control plane"),
                "use an address or vip of a control plane, or the name of a load balancer",
            ));
        } else if address.is_some_and(|address| all_known && !owned.is_empty() && !owned.contains(&address)) {
            findings.push(file.finding(
                Severity::Warning,
                "endpoint-without-node",
                node.position,
                format!("no control plane in these files owns the endpoint {host}: it is not an address, vip or certificate name of a control plane"),
                "use an address or vip of a control plane; the address of a load balancer may be correct",
            ));
        }
    }
}

/// The addresses of a machine in its config.
struct Addresses<'a> {
    fixed: Vec<IpAddr>,
    /// The fixed addresses with the values that name them.
    values: Vec<(IpAddr, &'a YamlNode)>,
    /// Whether the machine has no other addresses.
    all: bool,
}

impl<'a> Addresses<'a> {
    fn of(file: &'a UserConfig) -> Self {
        let mut links = Vec::new();
        let mut all = true;
        for document in &file.documents {
            match document.kind() {
                None => {
                    for interface in document.items_at(&["machine", "network", "interfaces"]) {
                        links.push(interface);
                        links.extend(interface.items_at(&["vlans"]));
                    }
                }
                Some("DHCPv4Config" | "DHCPv6Config") => all = false,
                Some("Layer2VIPConfig" | "HCloudVIPConfig") => links.push(document),
                Some(kind) if kind.ends_with("LinkConfig") || LINKS.contains(&kind) => links.push(document),
                Some(_) => {}
            }
        }
        let mut values = Vec::new();
        for link in links {
            all &= !link.get(&["dhcp"]).is_some_and(YamlNode::is_true);
            let items = link.items_at(&["addresses"]).iter();
            let items = items
                .filter_map(|item| if item.text().is_some() { Some(item) } else { item.get(&["address"]) });
            let shared = link.kind().is_some_and(|kind| kind.ends_with("VIPConfig"));
            let named = link.get(&["name"]).filter(|_| shared);
            for node in items.chain(link.get(&["cidr"])).chain(link.get(&["vip", "ip"])).chain(named) {
                let address = node.text().map(|text| text.split('/').next().unwrap_or(text));
                match address.and_then(|text| text.parse().ok()) {
                    Some(address) => values.push((address, node)),
                    None => all = false,
                }
            }
        }
        Self { fixed: values.iter().map(|(address, _)| *address).collect(), values, all }
    }
}

/// Other documents that are links with addresses.
const LINKS: [&str; 5] = ["BondConfig", "BridgeConfig", "VLANConfig", "WireguardConfig", "VRFConfig"];

fn names(node: &YamlNode, path: &[&str]) -> impl Iterator<Item = IpAddr> {
    node.items_at(path).iter().filter_map(|item| item.text()?.parse().ok())
}

/// Finds addresses of nodes in the pod or service networks. Talos takes no such address as a node address
/// (internal/app/machined/pkg/controllers/network/node_address.go, k8s filters).
pub fn node_addresses(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in set.machines() {
        for (named, network) in named(config) {
            let inside = |(address, _): &&(IpAddr, &YamlNode)| network.contains(address);
            for (address, node) in Addresses::of(file).values.iter().filter(inside) {
                findings.push(file.finding(
                    Severity::Warning,
                    "node-address-in-network",
                    node.position,
                    format!(
                        "the address {address} is inside the {} network {network}; Talos does not use such an address for \
                         etcd and kubelet, which wait for another one",
                        named.name
                    ),
                    "choose pod and service networks that hold no address of a node",
                ));
            }
        }
    }
}
