//! Settings for hardware and services that lab VMs do not have.

use std::net::IpAddr;

use lab_model::{Diagnostic, Severity, yaml::YamlNode};

use super::{super::config_set::ConfigSet, placeholders::is_template};
use crate::user_config::UserConfig;

/// The only disk of a lab VM, on virtio.
const DISK: &str = "/dev/vda";

/// Finds install disks, time servers and serial consoles that do not exist in the lab.
pub fn lab_hosts(set: &ConfigSet, findings: &mut Vec<Diagnostic>) {
    for file in &set.files {
        for document in &file.documents {
            install_disk(file, document, findings);
            time_servers(file, document, findings);
            console(file, document, findings);
        }
    }
}

fn install_disk(file: &UserConfig, document: &YamlNode, findings: &mut Vec<Diagnostic>) {
    let Some(node) = document.get(&["machine", "install", "disk"]) else { return };
    let Some(disk) = node.text().filter(|disk| *disk != DISK && !disk.is_empty() && !is_template(disk))
    else {
        return;
    };
    findings.push(file.finding(
        Severity::Warning,
        "no-such-disk",
        node.position,
        format!("a VM has no disk {disk}"),
        format!("write {DISK} for VMs, or a diskSelector; on hardware it may be right"),
    ));
}

fn time_servers(file: &UserConfig, document: &YamlNode, findings: &mut Vec<Diagnostic>) {
    let servers = match document.kind() {
        None => document.items_at(&["machine", "time", "servers"]),
        Some("TimeSyncConfig") => document.items_at(&["ntp", "servers"]),
        Some(_) => &[],
    };
    for node in servers {
        let Some(address) = node.text().and_then(|text| text.parse::<IpAddr>().ok()) else { continue };
        let link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if link_local {
            findings.push(file.finding(
                Severity::Warning,
                "time-server-of-a-cloud",
                node.position,
                format!("the time server {address} exists inside one cloud only; elsewhere etcd, kubelet and bootstrap wait for the time without a limit"),
                "remove it: the lab has its own time server; on hardware, name a server that the node can reach",
            ));
        }
    }
}

fn console(file: &UserConfig, document: &YamlNode, findings: &mut Vec<Diagnostic>) {
    for node in document.items_at(&["machine", "install", "extraKernelArgs"]) {
        if node.text().is_some_and(|text| text.starts_with("console=ttyS")) {
            findings.push(file.finding(
                Severity::Warning,
                "console-of-x86",
                node.position,
                "ttyS0 is the serial console of x86 machines; an arm64 VM stays silent",
                "write console=ttyAMA0",
            ));
        }
    }
}
