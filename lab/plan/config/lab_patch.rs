//! The lab's machine config patches by name. Users can print each patch and switch it off. `lab/…` patches configure
//! nodes for the lab LAN. `speed/…` patches shorten the formation of a throw-away cluster.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of a lab patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[expect(missing_docs, reason = "each has its reason in `entry`")]
pub enum LabPatchId {
    Time,
    KubeletSubnet,
    Mirrors,
    Discovery,
    Hostname,
    InstallDisk,
    Loopback,
    EtcdSubnet,
    ImageCache,
    NetworkPlugin,
    ExtensionModules,
    Scheduling,
    Audit,
    LateComponents,
    GoRuntime,
    MemoryWatch,
    KubeletStatistics,
    FlannelResync,
    SpeedEtcdSync,
    SpeedEtcdTiming,
    SpeedLeaderElection,
    SpeedControllers,
    SpeedQueues,
    SpeedRates,
    SpeedLeases,
    SpeedAudit,
}

/// The nodes that a patch applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AppliesTo {
    /// Every node.
    #[serde(rename = "all")]
    All,
    /// Control planes.
    #[serde(rename = "controlplane")]
    ControlPlanes,
}

/// The static properties of a patch.
struct PatchEntry {
    name: &'static str,
    applies: AppliesTo,
    reason: &'static str,
}

const fn entry(name: &'static str, applies: AppliesTo, reason: &'static str) -> PatchEntry {
    PatchEntry { name, applies, reason }
}

/// A list entry for a patch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabPatchLine {
    pub id: LabPatchId,
    /// The nodes that the patch applies to.
    pub nodes: AppliesTo,
    /// The purpose of the patch.
    pub reason: &'static str,
}

/// The text is not the name of a patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lab has no patch \"{0}\"")]
pub struct UnknownLabPatch(String);

impl LabPatchId {
    /// All variants, in declaration order. Patches are merged into a config in this order.
    const ALL: [Self; 26] = [
        Self::Time,
        Self::KubeletSubnet,
        Self::Mirrors,
        Self::Discovery,
        Self::Hostname,
        Self::InstallDisk,
        Self::Loopback,
        Self::EtcdSubnet,
        Self::ImageCache,
        Self::NetworkPlugin,
        Self::ExtensionModules,
        Self::Scheduling,
        Self::Audit,
        Self::LateComponents,
        Self::GoRuntime,
        Self::MemoryWatch,
        Self::KubeletStatistics,
        Self::FlannelResync,
        Self::SpeedEtcdSync,
        Self::SpeedEtcdTiming,
        Self::SpeedLeaderElection,
        Self::SpeedControllers,
        Self::SpeedQueues,
        Self::SpeedRates,
        Self::SpeedLeases,
        Self::SpeedAudit,
    ];

    /// Returns all names, in merge order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    const fn entry(self) -> PatchEntry {
        use AppliesTo::{All, ControlPlanes};
        match self {
            Self::Time => entry(
                "lab/time",
                All,
                "etcd and kubelet wait for a clock in sync; the LAN's gateway answers NTP, no other server does",
            ),
            Self::KubeletSubnet => entry(
                "lab/kubelet-subnet",
                All,
                "a node may have more addresses, e.g. in a tailnet; Kubernetes must use the address on the LAN",
            ),
            Self::Mirrors => entry(
                "lab/mirrors",
                All,
                "images come from the lab's registry; a pull of a missing image fails at once, without a time-out",
            ),
            Self::Discovery => entry("lab/discovery", All, "the discovery service is on the internet"),
            Self::Hostname => {
                entry("lab/hostname", All, "Kubernetes, the reports and you use the same name for a node")
            }
            Self::InstallDisk => entry(
                "lab/install-disk",
                All,
                "a config must name a disk, and a VM has only /dev/vda, which counts as installed",
            ),
            Self::Loopback => entry(
                "lab/loopback",
                All,
                "talosctl reaches nodes at ports of this host, and their certificates must name its address",
            ),
            Self::EtcdSubnet => entry(
                "lab/etcd-subnet",
                ControlPlanes,
                "as for kubelet: etcd must announce its address on the LAN",
            ),
            Self::ImageCache => entry(
                "lab/image-cache",
                All,
                "with imageDelivery: disk, Talos looks for images on the disk that all nodes share before it asks a mirror",
            ),
            Self::NetworkPlugin => entry(
                "lab/network-plugin",
                All,
                "with cni in the scenario, the network plugin comes from its manifests and nowhere else",
            ),
            Self::ExtensionModules => entry(
                "lab/extension-modules",
                All,
                "a service of an extension waits for the device of a module, and Talos loads only modules that a config names",
            ),
            Self::Scheduling => entry(
                "lab/scheduling",
                ControlPlanes,
                "whether ordinary pods may run there is the scenario's allowSchedulingOnControlPlanes",
            ),
            Self::Audit => entry(
                "lab/audit",
                ControlPlanes,
                "a throw-away cluster needs no audit log, and writing it costs CPU time of the guest",
            ),
            Self::LateComponents => entry(
                "lab/late-components",
                ControlPlanes,
                "without an API server, the controller manager and the scheduler fail again and again and take CPU time \
                 from it; on an emulated Talos node, the registry sends their images once they can work",
            ),
            Self::GoRuntime => entry(
                "lab/go-runtime",
                ControlPlanes,
                "on an emulated Talos node, the API server collects garbage for a fifth of its start, goroutines are interrupted \
                 all the time, and each timer wakes threads that look for work; kernel arguments set the same for the \
                 services of all nodes",
            ),
            Self::MemoryWatch => entry(
                "lab/memory-watch",
                All,
                "Talos reads the memory pressure of seven control groups twice a second, to end pods before the kernel does; \
                 under emulation this takes CPU time, and a lab's nodes have the memory that they need",
            ),
            Self::KubeletStatistics => entry(
                "lab/kubelet-statistics",
                All,
                "kubelet collects statistics of every control group every 10 s, and the lab does not use these metrics; under \
                 emulation this takes a quarter of kubelet's CPU time",
            ),
            Self::FlannelResync => entry(
                "lab/flannel-resync",
                ControlPlanes,
                "every 5 s Flannel starts iptables for each of its rules; under emulation this takes a quarter of a core of \
                 every node, and nothing removes rules in a lab",
            ),
            Self::SpeedEtcdSync => entry(
                "speed/etcd-sync",
                ControlPlanes,
                "a sync protects only against a crash of the host, and the disk is thrown away",
            ),
            Self::SpeedEtcdTiming => entry(
                "speed/etcd-timing",
                ControlPlanes,
                "a guest with too little CPU time misses heartbeats of 100 ms, and etcd elects a new leader",
            ),
            Self::SpeedLeaderElection => entry(
                "speed/leader-election",
                ControlPlanes,
                "a single control plane needs no election, and a late lease renewal restarts the program",
            ),
            Self::SpeedControllers => entry(
                "speed/controllers",
                ControlPlanes,
                "these controllers watch the API server even without objects, and a throw-away cluster has none",
            ),
            Self::SpeedQueues => entry(
                "speed/queues",
                ControlPlanes,
                "fair queues protect against many clients; here they only cost work at start and per request",
            ),
            Self::SpeedRates => entry(
                "speed/rates",
                ControlPlanes,
                "the controller manager's 20 requests a second are meant for API servers that many share",
            ),
            Self::SpeedLeases => entry(
                "speed/leases",
                All,
                "kubelet renews its lease every 30 s instead of 10 s; a dead node is noticed after 3 min",
            ),
            Self::SpeedAudit => {
                entry("speed/audit", ControlPlanes, "as lab/audit, and for your own configs too")
            }
        }
    }

    /// Returns the spelling in scenario files, e.g. `lab/time`.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// Returns the name, nodes and reason.
    pub fn line(self) -> LabPatchLine {
        LabPatchLine { id: self, nodes: self.entry().applies, reason: self.entry().reason }
    }
}

impl fmt::Display for LabPatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for AppliesTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::All => "all",
            Self::ControlPlanes => "controlplane",
        })
    }
}

impl FromStr for LabPatchId {
    type Err = UnknownLabPatch;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all().find(|id| id.as_str() == text).ok_or_else(|| UnknownLabPatch(text.to_owned()))
    }
}

impl TryFrom<String> for LabPatchId {
    type Error = UnknownLabPatch;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LabPatchId> for String {
    fn from(id: LabPatchId) -> Self {
        id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_is_listed_once_and_its_name_leads_back_to_it() {
        for (at, id) in LabPatchId::all().enumerate() {
            assert_eq!(id as usize, at, "{id} is not in the order of the variants");
            assert_eq!(id.as_str().parse(), Ok(id));
            assert!(id.line().reason.len() > 20, "{id}");
        }
        // The last variant. The assertion fails if the list lacks a variant.
        assert_eq!(LabPatchId::SpeedAudit as usize + 1, LabPatchId::ALL.len());
        assert_eq!(
            "lab/tim".parse::<LabPatchId>().map_err(|error| error.to_string()),
            Err("the lab has no patch \"lab/tim\"".to_owned())
        );
    }
}
