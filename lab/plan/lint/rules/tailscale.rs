//! The gateway's ExtensionServiceConfig document.

use ipnet::IpNet;
use lab_model::{Diagnostic, Severity, node::Kind, yaml::YamlNode};

use super::{super::config_set::ConfigSet, networks::named};
use crate::{
    tailnet::{Needed, RouteProblem, check_routes, parse_routes},
    user_config::{UserConfig, machine_kind},
};

/// The prefix of keys from Tailscale's service.
const KEY_BEGINNING: &str = "tskey-";

/// The variables that hold a key. The container's program reads both names (containerboot, settings.go).
const KEYS: [&str; 2] = ["TS_AUTHKEY", "TS_AUTH_KEY"];

/// Finds routes that do not match the cluster, keys in files, two gateways, and settings that move the node's
/// address or names into the tailnet.
pub fn tailscale(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    let documents: Vec<_> = set
        .of_kind("ExtensionServiceConfig")
        .filter(|(_, document)| document.text_at(&["name"]) == Some("tailscale"))
        .collect();
    let needed = needed(set);
    for (file, document) in &documents {
        for entry in document.items_at(&["environment"]) {
            match entry.text().and_then(|text| text.split_once('=')) {
                Some(("TS_ROUTES", routes)) => look_at_routes(file, entry, routes, &needed, findings),
                Some((name, key)) if KEYS.contains(&name) && key.starts_with(KEY_BEGINNING) => findings.push(file.finding(
                    Severity::Warning,
                    "key-in-file",
                    entry.position,
                    format!("{name} looks like a live key; every reader of this file can join the tailnet"),
                    "revoke the key, keep the new key in the environment or in a file of mode 0600, and remove the old key from the history",
                )),
                Some(("TS_ACCEPT_DNS", "true" | "1")) => findings.push(file.finding(
                    Severity::Warning,
                    "tailnet-dns",
                    entry.position,
                    "TS_ACCEPT_DNS is on: tailscale replaces the name servers of the node, so image pulls and the host DNS \
                     of Talos fail when the tailnet fails",
                    "remove the line: it is off by default",
                )),
                _ => {}
            }
        }
        node_address(file, document, findings);
    }
    two_gateways(&documents, findings);
}

/// Finds a node that may take its tailnet address as the address of kubelet or etcd.
fn node_address(file: &UserConfig, document: &YamlNode, findings: &mut Vec<Diagnostic>) {
    let Some(main) = file.main() else { return };
    let Some(kind) = machine_kind(main) else { return };
    let mut missing = Vec::new();
    if main.items_at(&["machine", "kubelet", "nodeIP", "validSubnets"]).is_empty() {
        missing.push("machine.kubelet.nodeIP.validSubnets");
    }
    if kind == Kind::ControlPlane && main.items_at(&["cluster", "etcd", "advertisedSubnets"]).is_empty() {
        missing.push("cluster.etcd.advertisedSubnets");
    }
    if missing.is_empty() {
        return;
    }
    findings.push(file.finding(
        Severity::Warning,
        "tailscale-without-node-ip",
        document.position,
        format!(
            "this node has tailscale; without {} kubelet or etcd may use its tailnet address",
            missing.join(" and ")
        ),
        "set it to the network of the nodes",
    ));
}

/// Finds routes that two nodes advertise. Clients use one of them at a time.
fn two_gateways(documents: &[(&UserConfig, &YamlNode)], findings: &mut Vec<Diagnostic>) {
    let advertised = |document: &YamlNode| -> Vec<IpNet> {
        let entries = document.items_at(&["environment"]).iter();
        let routes = entries.filter_map(|entry| entry.text()?.strip_prefix("TS_ROUTES="));
        routes.flat_map(|routes| parse_routes(routes).unwrap_or_default()).collect()
    };
    let mut first: Option<(&UserConfig, Vec<IpNet>)> = None;
    for (file, document) in documents {
        let routes = advertised(document);
        if routes.is_empty() {
            continue;
        }
        match &first {
            None => first = Some((file, routes)),
            Some((other, _)) if other.name == file.name => {}
            Some((other, theirs)) => {
                if let Some(route) = routes.iter().find(|route| theirs.contains(route)) {
                    findings.push(file.finding(
                        Severity::Warning,
                        "two-gateways",
                        document.position,
                        format!("this node advertises the route {route}, and so does the one of {}; clients use one of them at a time", other.name),
                        "apply the document to one gateway, unless the other is a standby",
                    ));
                }
            }
        }
    }
}

/// Returns the networks in the configs of these files.
fn needed(set: &ConfigSet) -> Vec<Needed> {
    let mut needed = Vec::new();
    for (named, network) in set.machines().flat_map(|(_, config)| named(config)) {
        let network = Needed { name: named.name, network };
        if !needed.contains(&network) {
            needed.push(network);
        }
    }
    needed
}

fn look_at_routes(
    file: &UserConfig,
    entry: &YamlNode,
    routes: &str,
    needed: &[Needed],
    findings: &mut Vec<Diagnostic>,
) {
    let mut found = |problem: &RouteProblem| {
        // tailscale refuses to start with a route that is none. Which routes are wanted, the user decides.
        let severity = match problem {
            RouteProblem::Malformed { .. } => Severity::Error,
            _ => Severity::Warning,
        };
        let text = problem.to_string();
        let (message, help) = told(&text);
        findings.push(file.finding(severity, "routes", entry.position, message, help));
    };
    match parse_routes(routes) {
        Err(problem) => found(&problem),
        Ok(routes) => check_routes(&routes, needed).iter().for_each(found),
    }
}

/// Splits a message into the problem and the help text. A route problem ends with "; consequence: help"
/// or "; help".
fn told(problem: &str) -> (String, &str) {
    match problem.rsplit_once("; ") {
        Some((what, end)) => match end.split_once(": ") {
            Some((consequence, help)) => (format!("{what}; {consequence}"), help),
            None => (what.to_owned(), end),
        },
        None => (problem.to_owned(), "correct TS_ROUTES"),
    }
}
