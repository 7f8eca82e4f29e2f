//! The rules, one file per topic. A rule checks all files of a cluster and reports findings.

mod form;
mod lab_hosts;
mod networks;
mod placeholders;
mod registries;
mod roles;
mod tailscale;
mod together;

use lab_model::{Diagnostic, Diagnostics};

use super::config_set::ConfigSet;

/// One rule, or several rules that share their inputs.
type Rule = fn(&ConfigSet, &mut Vec<Diagnostic>);

const RULES: [Rule; 17] = [
    form::keys,
    form::machine_types,
    form::documents_once,
    registries::tls_for_plain_http,
    roles::talos_api_access_on_worker,
    roles::authority_keys_on_worker,
    roles::shared_address_on_worker,
    placeholders::unexpanded,
    placeholders::empty_secrets,
    placeholders::certificates,
    placeholders::not_persisted,
    networks::networks,
    networks::endpoint,
    networks::kubespan,
    lab_hosts::lab_hosts,
    tailscale::tailscale,
    together::together,
];

/// Runs all rules and returns the findings.
pub fn check(set: &ConfigSet) -> Diagnostics {
    let mut findings = set.unreadable.clone();
    for rule in RULES {
        rule(set, &mut findings);
    }
    Diagnostics::by_place(findings)
}
