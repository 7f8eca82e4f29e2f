//! The contents of the lab's patches: what each one deletes from a config and merges into it.
//!
//! Keys and values are valid for Talos v1.11 and v1.13 (`tests/talos_config.rs` validates them with the
//! Talos library).

use std::net::Ipv4Addr;

use lab_model::node::Kind;
use serde_json::{Map, Value, json};

use super::{
    cluster_config::{ClusterConfig, NodeConfig, TalosContract},
    documents::Cleared,
    lab_patch::{AppliesTo, LabPatchId},
};

/// Environment variables of emulated Go programs ([`LabPatchId::GoRuntime`]): less garbage collection.
pub(crate) const GOGC: &str = "400";
/// The same: no interruptions of goroutines, no post-quantum key exchange.
pub(crate) const GODEBUG: &str = "asyncpreemptoff=1,tlsmlkem=0";
/// The same: one thread that runs Go code.
pub(crate) const GOMAXPROCS: &str = "1";

/// A patch for one node: first the deletions, then the documents to merge.
#[derive(Clone, Debug, PartialEq)]
pub struct LabPatch {
    pub id: LabPatchId,
    /// Lists and documents of a user's config that a merge would extend instead of replace.
    pub(super) clears: &'static [Cleared],
    /// Documents that are merged into documents of the same kind, or added.
    pub documents: Vec<Value>,
}

impl LabPatchId {
    /// Returns the patch for a node. Returns `None` if the patch does not apply to the node or the
    /// cluster.
    pub fn patch(self, cluster: &ClusterConfig, node: &NodeConfig) -> Option<LabPatch> {
        let for_node = self.line().nodes == AppliesTo::All || node.kind == Kind::ControlPlane;
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
