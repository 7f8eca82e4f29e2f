//! Address assignment for user configs: the LAN, its gateway and the nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use lab_model::{Diagnostic, node::NodeName};

use super::patched::{ENDPOINT, PatchedConfig};
use crate::cluster::NetworkSpec;

/// A node with the inputs for its address.
pub(super) struct Placed<'a> {
    pub name: &'a NodeName,
    /// The user's config for the node, if any.
    pub config: Option<&'a PatchedConfig>,
    pub is_control_plane: bool,
}

/// The result of the assignment.
pub(super) struct Addresses {
    pub lan: Ipv4Net,
    pub gateway: Ipv4Addr,
    pub nodes: BTreeMap<NodeName, Ipv4Addr>,
}

/// Maximum prefix length. Narrower networks have no room for nodes beside the gateway.
const NARROWEST: u8 = 28;

/// Assigns an address to every node. `lan` is the LAN of the scenario, if specified. `endpoint` is the
/// control plane address in the files, if specified.
pub(super) fn place(
    nodes: &[Placed<'_>],
    lan: Option<Ipv4Net>,
    endpoint: Option<Ipv4Addr>,
    default: Ipv4Net,
) -> Result<Addresses, Vec<Diagnostic>> {
    let fixed: Vec<_> =
        nodes.iter().filter_map(|node| Some((node, node.config?, node.config?.static_address()?))).collect();
    let around = |net: Ipv4Net| {
        let length = if net.prefix_len() > NARROWEST { 24 } else { net.prefix_len() };
        Ipv4Net::new(net.addr(), length).map_or(net, |net| net.trunc())
    };
    let theirs = fixed.first().map(|(.., net)| *net).or(endpoint.map(Ipv4Net::from)).map(around);
    let lan = lan.or(theirs).unwrap_or(default);
    let mut refusals = Vec::new();
    let mut taken: BTreeMap<Ipv4Addr, &NodeName> = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (node, config, net) in &fixed {
        let address = net.addr();
        let value = address.to_string();
        if !lan.contains(&address) {
            refusals.push(config.refused_value(
                &value,
                format!(
                    "{}'s address {address} is not on the lab LAN {lan}; all nodes are on one LAN",
                    node.name
                ),
                "give all nodes addresses of one network, or leave cluster.network.lan out of the scenario",
            ));
        } else if let Some(other) = taken.insert(address, node.name) {
            refusals.push(config.refused_value(
                &value,
                format!("the address {address} is {other}'s and {}'s", node.name),
                "give each node a file of its own (`config:` of the node), or take the address out: the LAN has DHCP",
            ));
        }
        addresses.insert(node.name.clone(), address);
    }
    let shared: BTreeSet<Ipv4Addr> =
        nodes.iter().filter_map(|node| node.config).flat_map(PatchedConfig::shared_addresses).collect();
    let control_plane = nodes.iter().find(|node| node.is_control_plane);
    if let (Some(endpoint), Some(node)) = (endpoint, control_plane) {
        match addresses.get(node.name).copied() {
            Some(own) if own == endpoint || shared.contains(&endpoint) => {}
            None if lan.contains(&endpoint) && !shared.contains(&endpoint) => {
                addresses.insert(node.name.clone(), endpoint);
            }
            None if lan.contains(&endpoint) => {}
            own => {
                let owner = match own {
                    Some(own) => format!("its only control plane {} has {own}", node.name),
                    None => format!("its LAN is {lan}"),
                };
                refusals.extend(node.config.map(|config| {
                    config.refused(
                        &ENDPOINT,
                        format!("no node of the lab owns the endpoint {endpoint}: {owner}"),
                        "patch it for the lab: cluster.patches.all: [{cluster: {controlPlane: {endpoint: \
                         'https://ADDRESS:6443'}}}], or leave cluster.network.lan out of the scenario",
                    )
                }));
            }
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut used: BTreeSet<Ipv4Addr> = addresses.values().copied().chain(shared).collect();
    let routed = nodes.iter().filter_map(|node| node.config).flat_map(PatchedConfig::gateways);
    let gateway = routed
        .chain(lan.hosts())
        .find(|address| lan.contains(address) && !used.contains(address))
        .unwrap_or(lan.network());
    used.insert(gateway);
    let pool = NetworkSpec { lan, ..NetworkSpec::default() };
    let mut free = (0..nodes.len() + used.len()).filter_map(|index| pool.node_address(index));
    for node in nodes {
        if !addresses.contains_key(node.name)
            && let Some(address) = free.find(|address| !used.contains(address))
        {
            addresses.insert(node.name.clone(), address);
        }
    }
    Ok(Addresses { lan, gateway, nodes: addresses })
}
