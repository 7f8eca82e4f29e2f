//! The rules of the lab, one file per topic: what Talos accepts and no cluster survives (errors), and what is
//! suspicious (warnings). A rule checks all files of a cluster and reports findings.

mod lab_hosts;
mod networks;
pub(super) mod placeholders;
mod registries;
mod secrets;
mod tailscale;
mod together;

use lab_model::Diagnostic;

use super::config_set::ConfigSet;

/// One rule, or several rules that share their inputs.
type Rule = fn(&ConfigSet, &mut Vec<Diagnostic>);

const RULES: [Rule; 11] = [
    registries::tls_for_plain_http,
    registries::mirrors_without_scheme,
    placeholders::unexpanded,
    secrets::empty_secrets,
    secrets::certificates,
    networks::networks,
    networks::endpoint,
    networks::node_addresses,
    lab_hosts::lab_hosts,
    tailscale::tailscale,
    together::together,
];

/// Runs all rules.
pub(super) fn run(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for rule in RULES {
        rule(set, findings);
    }
}
