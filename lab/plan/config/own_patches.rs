//! Selects the lab patches for a user's config. Existing settings in the config take precedence.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{
    cluster_config::{ClusterConfig, NodeConfig},
    documents::MachineConfig,
    lab_patch::LabPatchId,
    lab_patches::LabPatches,
    patch_documents::LabPatch,
};

impl LabPatches {
    /// Returns the enabled patches that a user's config requires, for a node at `address`. Existing
    /// settings in the config stay unchanged.
    pub fn of_own(
        &self,
        config: &MachineConfig,
        cluster: &ClusterConfig,
        node: &NodeConfig,
        address: Ipv4Addr,
    ) -> Vec<LabPatch> {
        let needed = self.on().filter(|id| !id.is_said_by(config, cluster, address));
        let mut patches: Vec<_> = needed.filter_map(|id| id.patch(cluster, node)).collect();
        // Without a HostnameConfig document, the host name goes into the main document, which every
        // version reads.
        if config.of_kind("HostnameConfig").is_none() {
            for patch in patches.iter_mut().filter(|patch| patch.id == LabPatchId::Hostname) {
                let hostname = json!({ "hostname": node.name.as_str() });
                patch.documents = vec![json!({ "machine": { "network": hostname } })];
            }
        }
        patches
    }
}

impl LabPatchId {
    /// Returns whether a user's config makes this patch unnecessary.
    fn is_said_by(self, config: &MachineConfig, cluster: &ClusterConfig, address: Ipv4Addr) -> bool {
        let main = config.main();
        let at = |path: &str| main.and_then(|main| main.pointer(path));
        let covered = |path: &str| {
            let ranges = at(path).and_then(Value::as_array).into_iter().flatten();
            let mut ranges = ranges.filter_map(|range| range.as_str()?.parse::<Ipv4Net>().ok());
            ranges.any(|range| range.contains(&address))
        };
        match self {
            Self::KubeletSubnet => covered("/machine/kubelet/nodeIP/validSubnets"),
            Self::EtcdSubnet => covered("/cluster/etcd/advertisedSubnets"),
            Self::Loopback => {
                let names = at("/machine/certSANs").and_then(Value::as_array).into_iter().flatten();
                names.filter_map(Value::as_str).any(|name| name == Ipv4Addr::LOCALHOST.to_string())
            }
            Self::Hostname => config.hostname().is_some(),
            Self::InstallDisk => {
                config.text_at(&["machine", "install", "disk"]).is_none()
                    && at("/machine/install/diskSelector").is_some()
            }
            Self::Scheduling => {
                let said = at("/cluster/allowSchedulingOnControlPlanes").and_then(Value::as_bool);
                said.unwrap_or(false) == cluster.schedule_on_control_planes
            }
            Self::FlannelResync => {
                let said = at("/cluster/network/cni/flannel/extraArgs").and_then(Value::as_array);
                let mut said = said.into_iter().flatten().filter_map(Value::as_str);
                said.any(|argument| argument.starts_with("--iptables-resync"))
            }
            Self::MemoryWatch => config.of_kind("OOMConfig").is_some(),
            Self::KubeletStatistics => at("/machine/kubelet/extraArgs/housekeeping-interval").is_some(),
            // The user decides about audit logs, unless the speed profile is selected.
            Self::Audit => true,
            _ => false,
        }
    }
}
