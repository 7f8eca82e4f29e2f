//! Rules for settings that only control planes may have (machinery,
//! config/types/v1alpha1/v1alpha1_validation.go).

use lab_model::{Diagnostic, Severity, node::Kind, yaml::YamlNode};

use super::super::config_set::ConfigSet;
use crate::user_config::{UserConfig, machine_kind};

fn workers(set: &ConfigSet) -> impl Iterator<Item = (&UserConfig, &YamlNode)> {
    set.machines().filter(|(_, config)| machine_kind(config) == Some(Kind::Worker))
}

/// Finds pod access to the Talos API on a worker.
pub fn talos_api_access_on_worker(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in workers(set) {
        let Some(access) = config.get(&["machine", "features", "kubernetesTalosAPIAccess"]) else { continue };
        if !access.get(&["enabled"]).is_some_and(YamlNode::is_true) {
            continue;
        }
        findings.push(file.finding(
            Severity::Error,
            "talos-api-access-on-worker",
            access.position,
            "features.kubernetesTalosAPIAccess is on for a worker; Talos says \"feature Kubernetes Talos API Access \
             can only be enabled on control plane machines\" and refuses the config",
            "remove it from patches for all nodes, and apply it only to control planes",
        ));
    }
}

/// Finds private keys of the cluster's CAs on a worker.
pub fn authority_keys_on_worker(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in workers(set) {
        for path in [["machine", "ca", "key"], ["cluster", "ca", "key"]] {
            let Some(key) = config.get(&path).filter(|key| key.text().is_some_and(|text| !text.is_empty()))
            else {
                continue;
            };
            findings.push(file.finding(
                Severity::Error,
                "authority-key-on-worker",
                key.position,
                format!(
                    "{} is set for a worker; Talos says that it \"is not allowed on non-controlplane nodes\"",
                    path.join(".")
                ),
                "remove the key: workers need only the certificate",
            ));
        }
        if let Some(etcd) = config.get(&["cluster", "etcd"]).filter(|etcd| !etcd.entries().is_empty()) {
            findings.push(file.finding(
                Severity::Error,
                "authority-key-on-worker",
                etcd.position,
                "cluster.etcd is set for a worker; Talos says \"etcd config is only allowed on control plane machines\"",
                "leave cluster.etcd out of workers' configs",
            ));
        }
    }
}

/// Finds a shared address of the control planes on a worker's interface.
pub fn shared_address_on_worker(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for (file, config) in workers(set) {
        let interfaces = config.items_at(&["machine", "network", "interfaces"]).iter();
        for vip in interfaces.filter_map(|interface| interface.get(&["vip"])) {
            findings.push(file.finding(
                Severity::Error,
                "shared-address-on-worker",
                vip.position,
                "an interface of a worker has a vip; Talos says \"virtual (shared) IP is not allowed on \
                 non-controlplane nodes\"",
                "set a vip only on control planes",
            ));
        }
    }
}
