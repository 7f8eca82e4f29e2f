//! Whether the lab can form the cluster of the user's files.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use lab_model::{
    node::{Kind, NodeName},
    yaml::Place,
};
use serde::{Deserialize, Serialize};

use super::{
    addresses::{Placed, place},
    facts::Facts,
    file::{OwnFile, Refusal},
};
use crate::{
    cluster::KUBERNETES_API_PORT,
    config::{LabPatchId, LabPatches, Talosconfig},
};

/// What a scenario asks for.
#[derive(Debug)]
pub struct Asked<'a> {
    /// All nodes.
    pub nodes: Vec<AskedNode<'a>>,
    /// Its LAN, when it names one.
    pub lan: Option<Ipv4Net>,
    /// Which of the lab's patches are on.
    pub lab_patches: &'a LabPatches,
    /// The user's client file.
    pub talosconfig: Option<&'a OwnFile>,
    /// The LAN when nobody names one.
    pub default_lan: Ipv4Net,
}

/// A node of a scenario.
#[derive(Debug)]
pub struct AskedNode<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// What it is for.
    pub kind: Kind,
    /// Its own config.
    pub file: Option<&'a OwnFile>,
    /// The user's patches, in their order.
    pub patches: Vec<&'a str>,
}

/// What the files decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnCluster {
    /// The cluster's name in them.
    pub name: Option<String>,
    /// The control plane's URL in them.
    pub endpoint: String,
    /// The name in the URL, when it is no address.
    pub endpoint_name: Option<String>,
    /// The LAN.
    pub lan: Ipv4Net,
    /// The LAN's gateway.
    pub gateway: Ipv4Addr,
    /// Each node's address.
    pub addresses: BTreeMap<NodeName, Ipv4Addr>,
    /// The network of pods.
    pub pods: Option<Ipv4Net>,
    /// The network of services.
    pub services: Option<Ipv4Net>,
    /// The DNS domain.
    pub dns_domain: Option<String>,
    /// Whether ordinary pods may run on control planes.
    pub schedule_on_control_planes: bool,
    /// The client file to use in place of a generated one.
    pub talosconfig: Option<OwnFile>,
}

/// Secrets without which a control plane's config makes no cluster.
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
/// Secrets without which a worker's config joins none.
const OF_WORKERS: [&[&str]; 4] =
    [&["machine", "token"], &["machine", "ca", "crt"], &["cluster", "token"], &["cluster", "ca", "crt"]];

const ENDPOINT: [&str; 3] = ["cluster", "controlPlane", "endpoint"];

/// Looks at all files together.
///
/// # Errors
/// Everything that the lab cannot work with and may not change.
pub fn judge(asked: &Asked<'_>) -> Result<OwnCluster, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut facts = Vec::new();
    for node in &asked.nodes {
        let read = node.file.map(|file| Facts::read(file, &node.patches)).transpose();
        facts.push(read.unwrap_or_else(|refusal| {
            refusals.push(refusal);
            None
        }));
    }
    if !refusals.is_empty() {
        return Err(once(refusals));
    }
    let placed = || asked.nodes.iter().zip(&facts);
    for (node, facts) in placed().filter_map(|(node, facts)| Some((node, facts.as_ref()?))) {
        of_node(asked, node, facts, &mut refusals);
    }
    let control_plane = placed().find(|(node, _)| node.kind == Kind::ControlPlane);
    let Some((_, Some(first))) = control_plane else {
        let workers = placed().filter_map(|(node, facts)| Some((node, facts.as_ref()?)));
        refusals.extend(workers.map(|(node, facts)| {
            facts.refusal(
                facts.place(&["machine", "ca"]),
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
        refusals.extend(client_file(file, first).err());
    }
    let endpoint = endpoint(first).map_err(|refusal| refusals.push(refusal)).ok();
    let (Some((endpoint, host)), true) = (endpoint, refusals.is_empty()) else {
        return Err(once(refusals));
    };
    let nodes: Vec<_> = placed()
        .map(|(node, facts)| Placed {
            name: node.name,
            facts: facts.as_ref(),
            is_control_plane: node.kind == Kind::ControlPlane,
        })
        .collect();
    let address = host.parse().ok();
    let found = place(&nodes, asked.lan, address, asked.default_lan)?;
    Ok(OwnCluster {
        name: first.config.text_at(&["cluster", "clusterName"]).map(str::to_owned),
        endpoint,
        endpoint_name: address.is_none().then_some(host),
        lan: found.lan,
        gateway: found.gateway,
        addresses: found.nodes,
        pods: first.network("/cluster/network/podSubnets"),
        services: first.network("/cluster/network/serviceSubnets"),
        dns_domain: first.config.text_at(&["cluster", "network", "dnsDomain"]).map(str::to_owned),
        schedule_on_control_planes: first
            .at("/cluster/allowSchedulingOnControlPlanes")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false),
        talosconfig: asked.talosconfig.cloned(),
    })
}

/// Each refusal once: nodes may share a file.
fn once(refusals: Vec<Refusal>) -> Vec<Refusal> {
    let mut told = Vec::new();
    for refusal in refusals {
        if !told.contains(&refusal) {
            told.push(refusal);
        }
    }
    told
}

/// What is wrong with one node's config alone.
fn of_node(asked: &Asked<'_>, node: &AskedNode<'_>, facts: &Facts<'_>, refusals: &mut Vec<Refusal>) {
    let name = node.name;
    if facts.kind() != Some(node.kind) {
        let said = facts.config.text_at(&["machine", "type"]).unwrap_or("not there");
        refusals.push(facts.refusal(
            facts.place(&["machine", "type"]),
            format!("machine.type is {said} and {name} is a {} of the scenario", node.kind.machine_type()),
            "give each kind of node the file that was made for it",
        ));
        // What it lacks besides would be told of the wrong file.
        return;
    }
    match facts.config.hostname() {
        Some(host) if host.split('.').next() != Some(name.as_str()) => refusals.push(facts.refusal(
            facts.place_of(host),
            format!("it names its node {host}, and the scenario calls it {name}; the lab finds nodes by their names"),
            format!("call the node {host} in the scenario, or take the name out of the file: the lab then sets it"),
        )),
        None if asked.lab_patches.off.contains(&LabPatchId::Hostname) => refusals.push(facts.refusal(
            facts.place(&["machine", "network"]),
            format!("nothing names the node {name}, for lab/hostname is off"),
            "name it in the file, or leave lab/hostname on",
        )),
        _ => {}
    }
    let needed: &[&[&str]] = match node.kind {
        Kind::ControlPlane => &OF_CONTROL_PLANES,
        Kind::Worker => &OF_WORKERS,
    };
    let mut missing: Vec<_> =
        needed.iter().filter(|path| facts.config.text_at(path).is_none()).copied().collect();
    let signs = facts.config.text_at(&["machine", "ca", "key"]).is_some();
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
        facts.refusal(facts.place(path), format!("{} is missing", path.join(".")), help)
    }));
    if facts.has_kubespan() && !asked.lab_patches.off.contains(&LabPatchId::Discovery) {
        refusals.push(facts.refusal(
            facts.place(&["machine", "network", "kubespan"]),
            "KubeSpan is on; its peers find each other by the discovery service, which is on the internet",
            "switch it off for the lab: cluster.patches.all: [{machine: {network: {kubespan: {enabled: false}}}}]",
        ));
    }
}

/// The endpoint's URL and its host.
fn endpoint(facts: &Facts<'_>) -> Result<(String, String), Refusal> {
    let refusal = |message: String, help: &str| facts.refusal(facts.place(&ENDPOINT), message, help);
    let example = "write it as https://ADDRESS:6443";
    let Some(url) = facts.config.text_at(&ENDPOINT) else {
        return Err(refusal("cluster.controlPlane.endpoint is missing".into(), example));
    };
    let Some(authority) = url.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or(rest))
    else {
        return Err(refusal(format!("the endpoint {url} is no https URL"), example));
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
            format!("the endpoint {host} is each node itself; workers would not find the control plane"),
            example,
        ));
    }
    Ok((url.to_owned(), host.to_ascii_lowercase()))
}

/// Whether a client file is for this cluster.
fn client_file(file: &OwnFile, facts: &Facts<'_>) -> Result<(), Refusal> {
    let refusal = |key: &str, message: String| {
        let line =
            file.text.lines().position(|line| line.trim_start().starts_with(key)).map_or(1, |at| at + 1);
        Refusal {
            file: file.origin.clone(),
            place: Place { line, column: 1 },
            message,
            help: "give the talosconfig that talosctl gen config wrote beside the configs".into(),
        }
    };
    let config = Talosconfig::from_yaml(&file.text)
        .map_err(|error| refusal("", format!("it is no talosconfig: {error}")))?;
    let Some(context) = config.current() else {
        return Err(refusal("context:", format!("it has no context {}", config.context)));
    };
    if facts.config.text_at(&["machine", "ca", "crt"]) != Some(context.ca.trim()) {
        return Err(refusal(
            "ca:",
            "its authority is another one than machine.ca of the control plane's config: it is another cluster's".into(),
        ));
    }
    Ok(())
}
