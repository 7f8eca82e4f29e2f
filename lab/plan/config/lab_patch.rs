//! The lab's machine config patches. Each has a name, and users can print it and switch it off. `lab/…`
//! patches configure nodes for the lab LAN. `speed/…` patches shorten the formation of a throw-away
//! cluster.
//!
//! Keys and values are valid for Talos v1.11 and v1.13 (`tests/talos_config.rs` validates them with the
//! Talos library).

use std::{fmt, net::Ipv4Addr, str::FromStr};

use lab_model::node::Kind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    cluster_config::{ClusterConfig, NodeConfig, TalosContract},
    documents::Cleared,
};

/// Environment variables of emulated Go programs ([`LabPatchId::GoRuntime`]): less garbage collection.
pub(crate) const GOGC: &str = "400";
/// The same: no interruptions of goroutines, no post-quantum key exchange.
pub(crate) const GODEBUG: &str = "asyncpreemptoff=1,tlsmlkem=0";
/// The same: one thread that runs Go code.
pub(crate) const GOMAXPROCS: &str = "1";

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

/// A patch for one node: first the deletions, then the documents to merge.
#[derive(Clone, Debug, PartialEq)]
pub struct LabPatch {
    pub id: LabPatchId,
    /// Lists and documents of a user's config that a merge would extend instead of replace.
    pub(super) clears: &'static [Cleared],
    /// Documents that are merged into documents of the same kind, or added.
    pub documents: Vec<Value>,
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
                "every 10 s kubelet reads the statistics of each control group, for metrics that nobody reads in a lab; under \
                 emulation this takes a quarter of its CPU time",
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

    /// Returns the patch for a node. Returns `None` if the patch does not apply to the node or the
    /// cluster.
    pub fn patch(self, cluster: &ClusterConfig, node: &NodeConfig) -> Option<LabPatch> {
        let for_node = self.entry().applies == AppliesTo::All || node.kind == Kind::ControlPlane;
        let asked_for = match self {
            Self::ImageCache => cluster.image_cache,
            Self::NetworkPlugin => cluster.own_network_plugin,
            Self::ExtensionModules => !node.modules.is_empty(),
            Self::FlannelResync => node.flannel,
            // Talos 1.11 does not watch the memory.
            Self::MemoryWatch => cluster.contract > TalosContract::V1_11,
            _ => true,
        };
        (for_node && asked_for).then(|| LabPatch {
            id: self,
            clears: self.clears(),
            documents: vec![self.document(cluster, node)],
        })
    }

    fn clears(self) -> &'static [Cleared] {
        match self {
            Self::Time => {
                &[Cleared::Key(&["machine", "time", "servers"]), Cleared::Documents("TimeSyncConfig")]
            }
            Self::KubeletSubnet => &[Cleared::Key(&["machine", "kubelet", "nodeIP", "validSubnets"])],
            Self::Mirrors => &[
                Cleared::Key(&["machine", "registries", "mirrors"]),
                Cleared::Documents("RegistryMirrorConfig"),
            ],
            Self::EtcdSubnet => &[Cleared::Key(&["cluster", "etcd", "advertisedSubnets"])],
            _ => &[],
        }
    }

    fn document(self, cluster: &ClusterConfig, node: &NodeConfig) -> Value {
        match self {
            Self::Time => json!({ "machine": { "time": { "servers": [cluster.gateway] } } }),
            Self::KubeletSubnet => {
                json!({ "machine": { "kubelet": { "nodeIP": { "validSubnets": [cluster.lan] } } } })
            }
            Self::Mirrors => json!({ "machine": { "registries": { "mirrors": mirrors(cluster) } } }),
            Self::Discovery => json!({ "cluster": { "discovery": { "enabled": false } } }),
            Self::Hostname if cluster.contract == TalosContract::V1_11 => {
                json!({ "machine": { "network": { "hostname": node.name.as_str() } } })
            }
            Self::Hostname => json!({
                "apiVersion": "v1alpha1", "kind": "HostnameConfig", "auto": "off", "hostname": node.name.as_str(),
            }),
            Self::InstallDisk => json!({ "machine": { "install": { "disk": "/dev/vda" } } }),
            Self::Loopback => json!({ "machine": { "certSANs": [Ipv4Addr::LOCALHOST] } }),
            Self::EtcdSubnet => json!({ "cluster": { "etcd": { "advertisedSubnets": [cluster.lan] } } }),
            Self::ImageCache => {
                json!({ "machine": { "features": { "imageCache": { "localEnabled": true } } } })
            }
            Self::NetworkPlugin => json!({ "cluster": { "network": { "cni": { "name": "none" } } } }),
            Self::ExtensionModules => {
                let modules: Vec<_> = node.modules.iter().map(|name| json!({ "name": name })).collect();
                json!({ "machine": { "kernel": { "modules": modules } } })
            }
            Self::Scheduling => {
                json!({ "cluster": { "allowSchedulingOnControlPlanes": cluster.schedule_on_control_planes } })
            }
            Self::Audit | Self::SpeedAudit => {
                json!({ "cluster": { "apiServer": { "auditPolicy": audit_policy("None") } } })
            }
            Self::LateComponents => {
                let share = |cpu| json!({ "resources": { "requests": { "cpu": cpu } } });
                json!({
                // The registry holds back a pull, and others must not wait for it.
                "machine": { "kubelet": { "extraConfig": { "serializeImagePulls": false } } },
                // Probes end a component that does not start or answer in time.
                "cluster": { "controllerManager": share("400m"), "scheduler": share("100m") },
                })
            }
            Self::GoRuntime => {
                // With more threads, each timer wakes some that look for work. The memory is a soft limit, for nodes
                // with 2 GiB.
                let of = |memory| {
                    json!({ "env": {
                        "GOGC": GOGC, "GOMEMLIMIT": memory, "GODEBUG": GODEBUG, "GOMAXPROCS": GOMAXPROCS,
                    } })
                };
                json!({ "cluster": {
                    "apiServer": of("700MiB"), "controllerManager": of("200MiB"), "scheduler": of("150MiB"),
                } })
            }
            Self::MemoryWatch => {
                json!({ "apiVersion": "v1alpha1", "kind": "OOMConfig", "sampleInterval": "10s" })
            }
            Self::KubeletStatistics => {
                json!({ "machine": { "kubelet": { "extraArgs": { "housekeeping-interval": "60s" } } } })
            }
            Self::FlannelResync => {
                let flannel = json!({ "extraArgs": ["--iptables-resync=300"] });
                json!({ "cluster": { "network": { "cni": { "name": "flannel", "flannel": flannel } } } })
            }
            Self::SpeedEtcdSync => arguments("etcd", json!({ "unsafe-no-fsync": "true" })),
            Self::SpeedEtcdTiming => {
                arguments("etcd", json!({ "heartbeat-interval": "500", "election-timeout": "5000" }))
            }
            Self::SpeedLeaderElection => {
                let mut patch = arguments("controllerManager", json!({ "leader-elect": "false" }));
                patch["cluster"]["scheduler"] = json!({ "extraArgs": { "leader-elect": "false" } });
                patch
            }
            // Talos adds these to its built-in list.
            Self::SpeedControllers => arguments(
                "controllerManager",
                json!({ "controllers": "-cronjob-controller,-horizontal-pod-autoscaler-controller,\
                    -resourcequota-controller,-ttl-after-finished-controller" }),
            ),
            Self::SpeedQueues => arguments("apiServer", json!({ "enable-priority-and-fairness": "false" })),
            Self::SpeedRates => {
                arguments("controllerManager", json!({ "kube-api-qps": "100", "kube-api-burst": "200" }))
            }
            Self::SpeedLeases => {
                let mut patch = json!({
                    "machine": { "kubelet": { "extraConfig": { "nodeLeaseDurationSeconds": 120 } } },
                });
                if node.kind == Kind::ControlPlane {
                    // Must be longer than the lease; otherwise healthy nodes would be marked as dead.
                    patch["cluster"] = json!({
                        "controllerManager": { "extraArgs": { "node-monitor-grace-period": "180s" } },
                    });
                }
                patch
            }
        }
    }
}

/// Returns a patch with arguments for a control plane program.
fn arguments(program: &str, extra: Value) -> Value {
    json!({ "cluster": { program: { "extraArgs": extra } } })
}

fn mirrors(cluster: &ClusterConfig) -> Map<String, Value> {
    let mut upstreams: Vec<_> = cluster.mirrors.iter().collect();
    upstreams.sort_by(|a, b| a.upstream.cmp(&b.upstream));
    let mirror = |endpoint: &str| json!({ "endpoints": [endpoint], "skipFallback": true });
    upstreams.into_iter().map(|one| (one.upstream.clone(), mirror(&one.endpoint))).collect()
}

/// Returns an audit policy that records at `level`.
pub(super) fn audit_policy(level: &str) -> Value {
    json!({ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{ "level": level }] })
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
