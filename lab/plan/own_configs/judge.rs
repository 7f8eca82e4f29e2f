//! Checks whether the lab can form a cluster from the user's files.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use lab_model::{
    Diagnostic, Position,
    node::{Kind, NodeName},
    yaml::YamlNode,
};
use serde::{Deserialize, Serialize};

use super::{
    addresses::{Placed, place},
    file::OwnFile,
    patched::{ENDPOINT, PatchedConfig},
};
use crate::{
    cluster::KUBERNETES_API_PORT,
    config::{LabPatchId, LabPatches, Talosconfig},
};

/// The cluster that a scenario requests.
#[derive(Debug)]
pub struct RequestedCluster<'a> {
    pub nodes: Vec<RequestedNode<'a>>,
    /// The LAN, if the scenario specifies it.
    pub lan: Option<Ipv4Net>,
    /// The enabled lab patches.
    pub lab_patches: &'a LabPatches,
    /// The user's client file.
    pub talosconfig: Option<&'a OwnFile>,
    /// The default LAN.
    pub default_lan: Ipv4Net,
}

/// A node of a scenario.
#[derive(Debug)]
pub struct RequestedNode<'a> {
    pub name: &'a NodeName,
    pub kind: Kind,
    /// The user's config for the node.
    pub file: Option<&'a OwnFile>,
    /// The user's patches, in order.
    pub patches: Vec<&'a str>,
}

/// Cluster settings from the user's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCluster {
    /// Cluster name.
    pub name: Option<String>,
    /// URL of the control plane.
    pub endpoint: String,
    /// Host name in the URL. `None` if the host is an address.
    pub endpoint_name: Option<String>,
    pub lan: Ipv4Net,
    /// Gateway of the LAN.
    pub gateway: Ipv4Addr,
    /// The address of each node.
    pub addresses: BTreeMap<NodeName, Ipv4Addr>,
    /// The pod network.
    pub pods: Option<Ipv4Net>,
    /// The service network.
    pub services: Option<Ipv4Net>,
    /// The DNS domain of the cluster.
    pub dns_domain: Option<String>,
    /// Whether control planes accept ordinary pods.
    pub schedule_on_control_planes: bool,
    /// The user's client file, which replaces the generated one.
    pub talosconfig: Option<OwnFile>,
}

/// Secrets that a control plane config requires to form a cluster.
const OF_CONTROL_PLANES: [&[&str]; 9] = [
    &["machine", "token"],
    &["machine", "ca", "crt"],
    &["cluster", "id"],
    &["cluster", "secret"],
    &["cluster", "token"],
    &["cluster", "ca", "crt"],
    &["cluster", "ca", "key"],
    &["cluster", "etcd", "ca", "key"],
    &["cluster", "serviceAccount", "key"],
];
/// Secrets that a worker config requires to join a cluster.
const OF_WORKERS: [&[&str]; 4] =
    [&["machine", "token"], &["machine", "ca", "crt"], &["cluster", "token"], &["cluster", "ca", "crt"]];

/// Checks all files together.
///
/// # Errors
/// Returns every problem that the lab cannot work with and must not change.
pub fn judge(asked: &RequestedCluster<'_>) -> Result<OwnCluster, Vec<Diagnostic>> {
    let mut refusals = Vec::new();
    let mut configs = Vec::new();
    for node in &asked.nodes {
        let read = node.file.map(|file| PatchedConfig::read(file, &node.patches)).transpose();
        configs.push(read.unwrap_or_else(|refusal| {
            refusals.push(*refusal);
            None
        }));
    }
    if !refusals.is_empty() {
        return Err(once(refusals));
    }
    let placed = || asked.nodes.iter().zip(&configs);
    for (node, config) in placed().filter_map(|(node, config)| Some((node, config.as_ref()?))) {
        of_node(asked, node, config, &mut refusals);
    }
    let control_plane = placed().find(|(node, _)| node.kind == Kind::ControlPlane);
    let Some((_, Some(first))) = control_plane else {
        let workers = placed().filter_map(|(node, config)| Some((node, config.as_ref()?)));
        refusals.extend(workers.map(|(node, config)| {
            config.refused(
                &["machine", "ca"],
                format!(
                    "{} has a config of its own and the control plane a generated one, with secrets of its own: \
                     they are two clusters",
                    node.name
                ),
                "give the control plane's file as well: cluster.configs.controlplane",
            )
        }));
        return Err(once(refusals));
    };
    if let Some(file) = asked.talosconfig {
        refusals.extend(client_file(file, first).err().map(|refusal| *refusal));
    }
    let endpoint = endpoint(first).map_err(|refusal| refusals.push(*refusal)).ok();
    let (Some((endpoint, host)), true) = (endpoint, refusals.is_empty()) else {
        return Err(once(refusals));
    };
    let nodes: Vec<_> = placed()
        .map(|(node, config)| Placed {
            name: node.name,
            config: config.as_ref(),
            is_control_plane: node.kind == Kind::ControlPlane,
        })
        .collect();
    let address = host.parse().ok();
    let found = place(&nodes, asked.lan, address, asked.default_lan)?;
    Ok(OwnCluster {
        name: first.says.text_at(&["cluster", "clusterName"]).map(str::to_owned),
        endpoint,
        endpoint_name: address.is_none().then_some(host),
        lan: found.lan,
        gateway: found.gateway,
        addresses: found.nodes,
        pods: first.network("pod"),
        services: first.network("service"),
        dns_domain: first.says.text_at(&["cluster", "network", "dnsDomain"]).map(str::to_owned),
        schedule_on_control_planes: first
            .says
            .main()
            .and_then(|main| main.get(&["cluster", "allowSchedulingOnControlPlanes"]))
            .is_some_and(YamlNode::is_true),
        talosconfig: asked.talosconfig.cloned(),
    })
}

/// Removes duplicates, because nodes can share a file.
fn once(refusals: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut told = Vec::new();
    for refusal in refusals {
        if !told.contains(&refusal) {
            told.push(refusal);
        }
    }
    told
}

/// Checks the config of one node in isolation.
fn of_node(
    asked: &RequestedCluster<'_>,
    node: &RequestedNode<'_>,
    config: &PatchedConfig,
    refusals: &mut Vec<Diagnostic>,
) {
    let name = node.name;
    if config.says.machine_kind() != Some(node.kind) {
        let said = config.says.text_at(&["machine", "type"]).unwrap_or("not there");
        refusals.push(config.refused(
            &["machine", "type"],
            format!("machine.type is {said} and {name} is a {} of the scenario", node.kind.machine_type()),
            "give each kind of node the file that was made for it",
        ));
        // Further findings would refer to the wrong file.
        return;
    }
    match config.says.hostname() {
        Some(host) if host.split('.').next() != Some(name.as_str()) => refusals.push(config.refused_value(
            host,
            format!("it names its node {host}, and the scenario calls it {name}; the lab finds nodes by their names"),
            format!("call the node {host} in the scenario, or take the name out of the file: the lab then sets it"),
        )),
        None if asked.lab_patches.off.contains(&LabPatchId::Hostname) => refusals.push(config.refused(
            &["machine", "network"],
            format!("no config names the node {name}, because lab/hostname is off"),
            "name it in the file, or leave lab/hostname on",
        )),
        _ => {}
    }
    let needed: &[&[&str]] = match node.kind {
        Kind::ControlPlane => &OF_CONTROL_PLANES,
        Kind::Worker => &OF_WORKERS,
    };
    let mut missing: Vec<_> =
        needed.iter().filter(|path| config.says.text_at(path).is_none()).copied().collect();
    let signs = config.says.text_at(&["machine", "ca", "key"]).is_some();
    if node.kind == Kind::ControlPlane && !signs && asked.talosconfig.is_none() {
        missing.push(&["machine", "ca", "key"]);
    }
    refusals.extend(missing.into_iter().map(|path| {
        let help = if path == ["machine", "ca", "key"] {
            "the lab makes its client certificate with it: give the file with its keys, or your client file as \
             cluster.talosconfig"
        } else {
            "give the file as talosctl gen config wrote it, with its secrets"
        };
        config.refused(path, format!("{} is missing", path.join(".")), help)
    }));
    if config.says.kubespan().is_some() && !asked.lab_patches.off.contains(&LabPatchId::Discovery) {
        refusals.push(config.refused(
            &["machine", "network", "kubespan"],
            "KubeSpan is on; its peers find each other by the discovery service, which is on the internet",
            "switch it off for the lab: cluster.patches.all: [{machine: {network: {kubespan: {enabled: false}}}}]",
        ));
    }
}

/// Returns the endpoint URL and its host.
fn endpoint(config: &PatchedConfig) -> Result<(String, String), Box<Diagnostic>> {
    let refusal = |message: String, help: &str| Box::new(config.refused(&ENDPOINT, message, help));
    let example = "write it as https://ADDRESS:6443";
    let Some(url) = config.says.text_at(&ENDPOINT) else {
        return Err(refusal("cluster.controlPlane.endpoint is missing".into(), example));
    };
    let Some(authority) = url.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or(rest))
    else {
        return Err(refusal(format!("the endpoint {url} is not an https URL"), example));
    };
    if authority.starts_with('[') {
        return Err(refusal(
            format!("the endpoint {url} is an IPv6 address; the lab LAN has IPv4 alone"),
            "patch it for the lab: cluster.patches.all: [{cluster: {controlPlane: {endpoint: 'https://ADDRESS:6443'}}}]",
        ));
    }
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
    if port.parse() != Ok(KUBERNETES_API_PORT) {
        return Err(refusal(
            format!(
                "the endpoint's port is {port}, a load balancer's; the API server of a node of the lab listens on \
                 {KUBERNETES_API_PORT}, and nothing stands before it"
            ),
            "patch it for the lab: cluster.patches.all: [{cluster: {controlPlane: {endpoint: 'https://HOST:6443'}}}]",
        ));
    }
    let itself = host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    if itself {
        return Err(refusal(
            format!("the endpoint {host} is a loopback address; workers would not find the control plane"),
            example,
        ));
    }
    Ok((url.to_owned(), host.to_ascii_lowercase()))
}

/// Checks that a client file belongs to this cluster.
fn client_file(file: &OwnFile, control_plane: &PatchedConfig) -> Result<(), Box<Diagnostic>> {
    let refusal = |key: &str, message: String| {
        let line =
            file.text.lines().position(|line| line.trim_start().starts_with(key)).map_or(1, |at| at + 1);
        let refusal = Diagnostic::at(&Position { line, column: 1 }, message).in_file(&file.origin);
        Box::new(refusal.help("give the talosconfig that talosctl gen config wrote beside the configs"))
    };
    let config = Talosconfig::from_yaml(&file.text)
        .map_err(|error| refusal("", format!("it is not a talosconfig: {error}")))?;
    let Some(context) = config.current() else {
        return Err(refusal("context:", format!("it has no context {}", config.context)));
    };
    if control_plane.says.text_at(&["machine", "ca", "crt"]) != Some(context.ca.trim()) {
        return Err(refusal(
            "ca:",
            "its certificate authority differs from machine.ca of the control plane's config: it belongs to another cluster".into(),
        ));
    }
    Ok(())
}
