//! The gateway's ExtensionServiceConfig document.

use lab_model::{Diagnostic, Severity, yaml::YamlNode};

use super::{super::config_set::ConfigSet, networks::named};
use crate::{
    tailnet::{Needed, check_routes, parse_routes},
    user_config::UserConfig,
};

/// The prefix of keys from Tailscale's service.
const KEY_BEGINNING: &str = "tskey-";

/// Finds routes that do not match the cluster, keys in files, and duplicate gateways.
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
                Some(("TS_AUTHKEY", key)) if key.starts_with(KEY_BEGINNING) => findings.push(file.finding(
                    Severity::Warning,
                    "key-in-file",
                    entry.position,
                    "TS_AUTHKEY looks like a live key; every reader of this file can join the tailnet",
                    "revoke the key, keep the new key in the environment or in a file of mode 0600, and remove the old key from the history",
                )),
                _ => {}
            }
        }
    }
    let mut gateways: Vec<_> = documents.iter().map(|(file, document)| (file, document.position)).collect();
    gateways.dedup_by_key(|(file, _)| file.name.as_str());
    if let [(first, _), others @ ..] = gateways.as_slice() {
        for (file, place) in others {
            findings.push(file.finding(
                Severity::Error,
                "two-gateways",
                *place,
                format!("this node gets the tailscale document, and so does the one of {}; a cluster has one gateway", first.name),
                "apply the document only to the gateway",
            ));
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
    let mut found = |problem: &dyn std::fmt::Display| {
        let text = problem.to_string();
        let (message, help) = told(&text);
        findings.push(file.finding(Severity::Error, "routes", entry.position, message, help));
    };
    match parse_routes(routes) {
        Err(problem) => found(&problem),
        Ok(routes) => check_routes(&routes, needed).iter().for_each(|problem| found(problem)),
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
