//! What is looked at once a cluster stands, and in which words it is asked.

use std::time::Duration;

use lab_model::{
    network::{Impairment, Partition},
    node::{NodeName, Role},
    workloads::{ECHO_IMAGE, WASM_IMAGE},
};
use lab_plan::cluster::{ClusterSpec, Patch};
use serde::{Deserialize, Serialize};

/// A check of a scenario: what to look at and how to say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpec {
    /// Unique in the scenario; the `check` of events and reports.
    pub id: String,
    /// What to look at.
    pub check: Check,
    /// The state that is assumed.
    pub given: String,
    /// What is done.
    pub when: String,
    /// What must then be true.
    pub then: String,
}

impl CheckSpec {
    /// GIVEN … WHEN … THEN, in one line.
    pub fn title(&self) -> String {
        format!("GIVEN {} WHEN {} THEN {}", self.given, self.when, self.then)
    }
}

/// What can be looked at. Checks are data; the code that does them reads this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Every node is green in all three layers of readiness.
    LayersGreen,
    /// Every node reports this processor architecture.
    Architecture {
        /// As Kubernetes spells it.
        is: Architecture,
    },
    /// No node has a Tailscale image, service, process, interface or address.
    NoTailscale {
        /// Only nodes of this role.
        role: Option<Role>,
    },
    /// A pod on each node reaches a pod on each other node.
    PodNetwork {
        /// Also through a ClusterIP service.
        service: bool,
        /// Also by the service's DNS name.
        dns: bool,
    },
    /// A node that loses power comes back Ready with the same identity.
    PowerCycle {
        /// The node.
        node: NodeName,
    },
    /// Every node runs what the image of its role holds: extensions, services, runtime handlers.
    Roles,
    /// A WebAssembly workload runs on every node and answers pods on other nodes, directly and
    /// through a service.
    Wasm,
    /// A tailnet client outside the cluster reaches pods and services through the gateway, and only
    /// through it.
    TailnetRouting,
    /// What a tailnet client reaches, it reaches again after each of these.
    TailnetRecovery {
        /// What is disturbed, one after the other.
        after: Vec<Disturbance>,
    },
    /// These kernel modules are loaded on every node.
    KernelModules {
        /// As the kernel names them.
        names: Vec<String>,
    },
    /// A node whose link is cut is missed by Kubernetes, and comes back when it is restored.
    LinkCut {
        /// The node.
        node: NodeName,
    },
    /// While the LAN is parted pods reach each other within a group only, afterwards everywhere.
    Partition {
        /// Who still reaches whom.
        partition: Partition,
        /// For how long.
        lasts: Duration,
    },
    /// While a node's link is slow or lossy its pod is reached all the same, and as late as asked for.
    LinkShape {
        /// The node.
        node: NodeName,
        /// What its link does.
        impairment: Impairment,
    },
    /// The boot of a node is held up by an extension service without its document, and ends so.
    BootHold {
        /// The node.
        node: NodeName,
        /// How the hold ends.
        ends: HoldEnd,
    },
}

/// How a boot ends that an extension service holds up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldEnd {
    /// The document is applied, and the boot goes on without a reboot.
    Release {
        /// The document.
        document: Patch,
    },
    /// Nobody applies one, and the node reboots when its time is up.
    Reboot,
}

/// Something that happens to a routed tailnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disturbance {
    /// The gateway's network cable is pulled out and put back in.
    LinkCut,
    /// The gateway loses power and is started again.
    GatewayReboot,
    /// The control server is away for a moment.
    ControlServerRestart,
    /// No datagram passes between the gateway and the outside, so that only the relay is left.
    NoDirectPath,
}

impl Disturbance {
    /// In words, after "after".
    fn label(self) -> &'static str {
        match self {
            Self::LinkCut => "its link was cut",
            Self::GatewayReboot => "it lost power",
            Self::ControlServerRestart => "the control server was restarted",
            Self::NoDirectPath => "UDP was blocked",
        }
    }
}

/// A processor architecture as Kubernetes spells it (`status.nodeInfo.architecture`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// ARM, 64 bit.
    Arm64,
    /// x86, 64 bit.
    Amd64,
}

impl Architecture {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Architecture::Arm64 => "arm64",
            Architecture::Amd64 => "amd64",
        }
    }
}

impl Check {
    /// The names of all checks, as scenario files spell them.
    pub const NAMES: [&'static str; 14] = [
        "layers-green",
        "architecture",
        "no-tailscale",
        "pod-network",
        "power-cycle",
        "roles",
        "wasm",
        "kernel-modules",
        "boot-hold",
        "link-cut",
        "partition",
        "link-shape",
        "tailnet-routing",
        "tailnet-recovery",
    ];

    /// The check's name, as scenario files spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Check::LayersGreen => "layers-green",
            Check::Architecture { .. } => "architecture",
            Check::NoTailscale { .. } => "no-tailscale",
            Check::PodNetwork { .. } => "pod-network",
            Check::PowerCycle { .. } => "power-cycle",
            Check::Roles => "roles",
            Check::Wasm => "wasm",
            Check::TailnetRouting => "tailnet-routing",
            Check::TailnetRecovery { .. } => "tailnet-recovery",
            Check::KernelModules { .. } => "kernel-modules",
            Check::BootHold { .. } => "boot-hold",
            Check::LinkCut { .. } => "link-cut",
            Check::Partition { .. } => "partition",
            Check::LinkShape { .. } => "link-shape",
        }
    }

    /// The nodes that the check names.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        match self {
            Check::PowerCycle { node }
            | Check::BootHold { node, .. }
            | Check::LinkCut { node }
            | Check::LinkShape { node, .. } => Some(node),
            _ => None,
        }
        .into_iter()
    }

    /// The container images of the workloads that it starts.
    pub(super) fn images(&self) -> &'static [&'static str] {
        match self {
            Check::PodNetwork { .. }
            | Check::TailnetRouting
            | Check::TailnetRecovery { .. }
            | Check::LinkCut { .. }
            | Check::Partition { .. }
            | Check::LinkShape { .. } => &[ECHO_IMAGE],
            Check::Wasm => &[ECHO_IMAGE, WASM_IMAGE],
            Check::LayersGreen
            | Check::Architecture { .. }
            | Check::NoTailscale { .. }
            | Check::PowerCycle { .. }
            | Check::Roles
            | Check::KernelModules { .. }
            | Check::BootHold { .. } => &[],
        }
    }

    /// Its GIVEN, WHEN and THEN, unless the scenario has its own.
    pub(super) fn words(&self, cluster: &ClusterSpec) -> [String; 3] {
        let count = cluster.nodes.len();
        let nodes = if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
        let formed = format!("a cluster formed of {nodes}");
        let words = |given: String, when: &str, then: String| [given, when.to_owned(), then];
        match self {
            Check::LayersGreen => words(
                format!("{nodes} with their machine configs"),
                "the cluster forms",
                "every node is green in boot sequence, services and Kubernetes".to_owned(),
            ),
            Check::Architecture { is } => words(
                formed,
                "Kubernetes is asked for the nodes' architecture",
                format!("every node says {}", is.as_str()),
            ),
            Check::NoTailscale { role } => words(
                formed,
                "images, services, processes and interfaces of every node are searched",
                match role {
                    None => "there is no Tailscale anywhere".to_owned(),
                    Some(role) => format!("there is no Tailscale on any {role} node"),
                },
            ),
            Check::PodNetwork { service, dns } => {
                let mut reached = String::from("every other node's pod answers");
                for (asked, way) in [(service, "through a ClusterIP service"), (dns, "by DNS name")] {
                    if *asked {
                        reached.push_str(", also ");
                        reached.push_str(way);
                    }
                }
                words(format!("a pod on each of {nodes}"), "each pod calls each other pod", reached)
            }
            Check::Roles => words(
                formed,
                "each node is compared with the image of its role",
                "it runs exactly what that image holds".to_owned(),
            ),
            Check::Wasm => words(
                format!("a WebAssembly module with the runtime class wasmtime-spin-v2 on each of {nodes}"),
                "pods of the ordinary runtime on other nodes call it",
                "it answers, directly and through a service".to_owned(),
            ),
            Check::TailnetRouting => words(
                "a gateway with its document and a tailnet client outside the cluster".to_owned(),
                "the client calls pods on other nodes, and a service",
                "packets arrive through the gateway, and only the gateway is in the tailnet".to_owned(),
            ),
            Check::TailnetRecovery { after } => words(
                "a tailnet client that reaches a pod through the gateway".to_owned(),
                "the gateway or its way is disturbed",
                format!(
                    "the pod answers again without help after {}",
                    after.iter().map(|disturbance| disturbance.label()).collect::<Vec<_>>().join(", ")
                ),
            ),
            Check::KernelModules { names } => words(
                formed,
                "each node's kernel is asked for its modules",
                format!("{} is loaded on every node", names.join(", ")),
            ),
            Check::BootHold { node, ends } => {
                let (when, then) = match ends {
                    HoldEnd::Release { .. } => {
                        ("its document is applied", "the boot goes on at once and without a reboot")
                    }
                    HoldEnd::Reboot => ("nobody configures it", "the node reboots when its time is up"),
                };
                words(
                    format!("the boot of {node}, held up by an extension service without its document"),
                    when,
                    then.to_owned(),
                )
            }
            Check::LinkCut { node } => words(
                formed,
                "the link of NODE is cut, and restored once Kubernetes misses it",
                "it goes NotReady, and is Ready again without help and without a reboot".to_owned(),
            )
            .map(|text| text.replace("NODE", node.as_str())),
            Check::Partition { partition, lasts } => words(
                format!("a pod on each of {nodes}"),
                "the network is parted for a while",
                format!(
                    "pods reach each other within a group and in no other ({partition}) for {} s, and everywhere \
                     afterwards",
                    lasts.as_secs()
                ),
            ),
            Check::LinkShape { node, impairment } => words(
                format!("a pod on each of {nodes}"),
                "the link of NODE is impaired: IMPAIRMENT",
                "its pod is reached all the same, and as late as that".to_owned(),
            )
            .map(|text| text.replace("NODE", node.as_str()).replace("IMPAIRMENT", &impairment.to_string())),
            Check::PowerCycle { node } => words(
                formed,
                "NODE loses power and is started again",
                "it is Ready again with the same identity".to_owned(),
            )
            .map(|text| text.replace("NODE", node.as_str())),
        }
    }
}
