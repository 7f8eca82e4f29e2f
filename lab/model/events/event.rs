//! The events of a run, as plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shard::Shard;
use crate::node::{Kind, NodeName, Role};

/// Version of the event recording format. Increment it if a change alters the meaning of new recordings for
/// older readers, or of older recordings for newer readers.
pub const FORMAT: u32 = 1;

/// Recordings without a version use the first format.
fn first_format() -> u32 {
    1
}

/// An event and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Sequence number in the stream of the run. Starts at 0 and has no gaps.
    pub seq: u64,
    /// Monotonic time since the start of the run.
    #[serde(rename = "t", with = "seconds")]
    pub at: Duration,
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The subject of an event: one node or the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The cluster, the network or the host.
    Cluster,
    Node(NodeName),
}

/// A step in cluster formation or in the lifecycle of a node. Displays show each step by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Unpacks images and creates disks on the host.
    Prepare,
    /// Restores memory and disk of a saved node, then waits until its kubelet responds.
    Restore,
    /// Starts QEMU and waits until the first user process writes to the console.
    Boot,
    /// Waits until the maintenance service responds.
    Maintenance,
    /// Sends the machine config.
    ApplyConfig,
    /// Waits until the authenticated machine API responds.
    SecureApi,
    /// Calls etcd bootstrap on one control plane node.
    Bootstrap,
    /// Issues the administrator's kubeconfig.
    Kubeconfig,
    /// Waits until the Kubernetes API server is ready.
    KubernetesApi,
    /// Waits until the nodes lack only the network plugin, then applies the plugin of the user.
    NetworkPlugin,
    /// Waits until the three readiness layers of the node are green.
    Ready,
    /// Stops the cluster.
    Teardown,
}

impl Step {
    /// All steps in order. A cluster runs the steps of either a cold start or a warm start.
    pub const ALL: [Step; 12] = [
        Step::Prepare,
        Step::Restore,
        Step::Boot,
        Step::Maintenance,
        Step::ApplyConfig,
        Step::SecureApi,
        Step::Bootstrap,
        Step::Kubeconfig,
        Step::KubernetesApi,
        Step::NetworkPlugin,
        Step::Ready,
        Step::Teardown,
    ];

    /// Returns the display label.
    pub fn label(self) -> &'static str {
        match self {
            Step::Prepare => "prepare",
            Step::Restore => "restore",
            Step::Boot => "boot",
            Step::Maintenance => "maintenance mode",
            Step::ApplyConfig => "apply config",
            Step::SecureApi => "machine API",
            Step::Bootstrap => "bootstrap etcd",
            Step::Kubeconfig => "kubeconfig",
            Step::KubernetesApi => "Kubernetes API",
            Step::NetworkPlugin => "network plugin",
            Step::Ready => "ready",
            Step::Teardown => "teardown",
        }
    }
}

/// The result of a step or a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Passed,
    /// The step or check failed.
    Failed {
        /// The attempted action, the observed result and the next step for the user, in one or two lines.
        cause: String,
    },
    /// The step or check did not run because an earlier one failed. It never counts as passed.
    NotRun {
        /// The reason it did not run.
        cause: String,
    },
}

impl Outcome {
    /// Reports whether this is [`Outcome::Passed`].
    pub fn passed(&self) -> bool {
        matches!(self, Outcome::Passed)
    }

    /// Returns the cause for the item `name` if it did not pass, formatted for a combined verdict.
    pub fn cause_of(&self, name: &str) -> Option<String> {
        match self {
            Outcome::Passed => None,
            Outcome::Failed { cause } | Outcome::NotRun { cause } => Some(format!("{name}: {cause}")),
        }
    }

    /// Combines several outcomes into a verdict. `causes` lists the failures.
    pub fn over(causes: &[String]) -> Self {
        if causes.is_empty() { Outcome::Passed } else { Outcome::Failed { cause: causes.join("; ") } }
    }
}

/// The three readiness layers. The lab reports them separately, because a node with the Kubernetes
/// condition Ready may still be in its boot sequence and reboot later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The Talos boot sequence: `MachineStatus.stage` is `running` and `ready`.
    BootSequence,
    /// Every service of the node is up, and healthy if it has a health check.
    Services,
    /// The Kubernetes Node condition Ready.
    KubernetesNode,
}

impl Layer {
    /// All layers, in display order.
    pub const ALL: [Layer; 3] = [Layer::BootSequence, Layer::Services, Layer::KubernetesNode];

    /// Returns the display label.
    pub fn label(self) -> &'static str {
        match self {
            Layer::BootSequence => "boot sequence",
            Layer::Services => "services",
            Layer::KubernetesNode => "Kubernetes node",
        }
    }
}

/// The state of a readiness layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerState {
    /// The lab has no status for this layer yet.
    Unknown,
    /// The layer is not ready yet.
    Waiting,
    /// The layer is ready.
    Green,
}

/// A scenario in the plan of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub scenario: String,
    /// The IDs of its checks.
    pub checks: Vec<String>,
}

/// The image of a planned node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedImage {
    /// The source of the image: a path or a registry reference.
    pub source: String,
    /// The names of its system extensions.
    pub extensions: Vec<String>,
}

/// The target of a request that a pod sends inside the cluster network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A pod on the given node, at the pod IP address.
    PodOn(String),
    /// A service, at its cluster IP address.
    Service,
    /// A service, by its DNS name.
    ServiceName,
}

/// A link of the chain from a gateway's route to a tailnet client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainLink {
    /// The lab did not check the link.
    Unknown,
    /// The link works.
    Holds,
    /// The link does not work. Contains the observed state.
    Broken(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The run started.
    RunStarted {
        /// The run name; also its directory name under `target/lab/`.
        run: String,
        /// The title, e.g. the name of a scenario.
        title: String,
        /// Wall-clock time, RFC 3339.
        wall: jiff::Timestamp,
        /// Version of the event format: the value of [`FORMAT`] at recording time.
        #[serde(default = "first_format")]
        format: u32,
        /// The shard number, if the run is a shard of a larger run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<Shard>,
    },
    /// The plan of the run, in execution order.
    Agenda {
        /// The scenarios and their checks.
        scenarios: Vec<Planned>,
    },
    /// The checks of a scenario start.
    ScenarioStarted {
        /// The name of the scenario.
        scenario: String,
        /// The question that the scenario answers.
        question: String,
    },
    /// The host properties that this run measured.
    HostMeasured {
        /// The active accelerator (`kvm`, `hvf`, `tcg`).
        accelerator: String,
        /// The QEMU version text.
        qemu: String,
        /// The slowdown relative to the reference host. The lab multiplies time budgets by this factor.
        speed_factor: f64,
    },
    /// A cluster starts, either warm or cold. If a warm start fails, a cold start follows.
    ClusterStarts {
        /// True if the lab restores a saved cluster; false if it forms a new cluster.
        warm: bool,
        /// The saved cluster in use, or the reason for a cold start.
        reason: String,
    },
    /// The host of the lab and the lab version.
    HostSeen {
        /// The lab version.
        lab: String,
        /// The operating system, as Rust spells it: `linux`, `macos`.
        os: String,
        /// The architecture, as Rust spells it: `x86_64`, `aarch64`.
        arch: String,
        /// The number of cores available to the lab.
        cores: usize,
        /// The memory in MiB, if the system reports it.
        memory_mib: Option<u64>,
    },
    /// The network of a plan.
    NetworkPlanned {
        /// The LAN, e.g. `10.5.0.0/24`.
        lan: String,
        /// The router, DNS server and NTP server of the nodes: the switch itself.
        gateway: std::net::Ipv4Addr,
        /// A description of the tailnet's control server; `None` without a tailnet.
        tailnet: Option<String>,
    },
    /// A node of the plan.
    NodePlanned {
        node: NodeName,
        /// The Kubernetes components of the node.
        kind: Kind,
        /// The role; it selects the boot image.
        role: Role,
        /// The node address on the lab LAN.
        address: std::net::Ipv4Addr,
        /// The image. Older recordings omit it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<PlannedImage>,
    },
    /// A step started.
    StepStarted {
        /// The node, or the cluster for a cluster step.
        subject: Subject,
        step: Step,
    },
    /// A step ended.
    StepFinished {
        /// The node, or the cluster for a cluster step.
        subject: Subject,
        step: Step,
        outcome: Outcome,
    },
    /// A line from the serial console of a node.
    Console {
        node: NodeName,
        /// The line, without line ending and terminal escapes.
        line: String,
    },
    /// The total resource use of a node's QEMU process.
    ResourcesSampled {
        node: NodeName,
        /// Processor time since process start, user and system, in seconds.
        cpu_seconds: f64,
        /// Resident memory in bytes.
        rss_bytes: u64,
    },
    /// An Event object of the Kubernetes API.
    KubernetesEvent {
        /// The node that emitted the event, otherwise the cluster.
        subject: Subject,
        /// True if the event type is `Warning`.
        warning: bool,
        /// The involved object, `Kind/namespace/name`.
        object: String,
        /// The event reason, e.g. `BackOff`.
        reason: String,
        message: String,
        /// The number of occurrences so far.
        count: u32,
    },
    /// A pod sent a request inside the cluster network.
    NetworkAsked {
        /// The node of the pod that sent the request.
        from: String,
        target: Target,
        /// The address or name of the target.
        address: String,
        /// The result of the request.
        outcome: Outcome,
    },
    /// The result of a tailnet route check.
    RouteFollowed {
        /// The host name of the gateway in the tailnet.
        gateway: String,
        prefix: String,
        /// The gateway advertised the route to the control server.
        advertised: ChainLink,
        /// The control server approved the route for the gateway.
        approved: ChainLink,
        /// The client uses the route.
        accepted: ChainLink,
        /// A packet returned.
        reached: ChainLink,
        /// The fastest round trip in milliseconds.
        fastest_ms: Option<u64>,
    },
    /// The QEMU process of a node ended.
    MachineExited {
        node: NodeName,
        /// The exit status or signal as text.
        status: String,
        /// True if the lab stopped the process.
        expected: bool,
    },
    /// A readiness layer of a node changed.
    LayerChanged {
        node: NodeName,
        layer: Layer,
        /// The new state.
        state: LayerState,
        /// The reason for the wait, or the reported status.
        detail: String,
    },
    /// A check of a scenario started.
    CheckStarted {
        /// The check ID in its scenario.
        check: String,
        /// GIVEN … WHEN … THEN, in one line.
        title: String,
    },
    /// A check of a scenario ended.
    CheckFinished {
        /// The check ID in its scenario.
        check: String,
        /// GIVEN … WHEN … THEN, in one line.
        title: String,
        outcome: Outcome,
        /// The observations, one fact per line.
        evidence: Vec<String>,
    },
    /// A message for the user.
    Note {
        subject: Subject,
        /// One line of text.
        text: String,
    },
    /// The verdict of a scenario.
    ScenarioFinished {
        /// The name of the scenario.
        scenario: String,
        outcome: Outcome,
    },
    /// The run ended.
    RunFinished {
        /// The overall verdict.
        outcome: Outcome,
    },
}

impl EventKind {
    /// Reports whether the event describes a cluster or a check, and therefore requires a scenario.
    pub fn belongs_to_a_scenario(&self) -> bool {
        matches!(
            self,
            EventKind::NetworkPlanned { .. }
                | EventKind::NodePlanned { .. }
                | EventKind::StepStarted { .. }
                | EventKind::CheckStarted { .. }
                | EventKind::CheckFinished { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_steps_are_listed_in_their_order() {
        let places: Vec<_> = Step::ALL.into_iter().map(|step| step as usize).collect();
        assert_eq!(places, (0..=Step::Teardown as usize).collect::<Vec<_>>());
    }
}

mod seconds {
    //! Serializes a duration as seconds with microsecond precision.
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64((d.as_secs_f64() * 1e6).round() / 1e6)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(d)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}
