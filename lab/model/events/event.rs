//! What can happen in a run, as plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shard::Shard;
use crate::node::{Kind, NodeName, Role};

/// Version of the form in which events are recorded. It goes up with a change by which a recording
/// would mean something else to an older reader, or an older recording to a newer one.
pub const FORMAT: u32 = 1;

/// What recordings that do not tell their form have: it was the first one.
fn first_format() -> u32 {
    1
}

/// One thing that happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the run's stream, from 0 without gaps.
    pub seq: u64,
    /// Monotonic time since the run started.
    #[serde(rename = "t", with = "seconds")]
    pub at: Duration,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What an event is about: one node or the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The cluster, the network or the host.
    Cluster,
    /// One node.
    Node(NodeName),
}

/// A step of cluster formation or of a node's life, as a display names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Images unpacked and disks made on the host.
    Prepare,
    /// Memory and disk of a saved node put in place; then until its kubelet answers again.
    Restore,
    /// QEMU started; until the first user process writes to the console.
    Boot,
    /// Until the maintenance service answers.
    Maintenance,
    /// The machine config is sent.
    ApplyConfig,
    /// Until the authenticated machine API answers.
    SecureApi,
    /// The etcd bootstrap call on one control plane.
    Bootstrap,
    /// The kubeconfig is fetched.
    Kubeconfig,
    /// Until the Kubernetes API server is ready.
    KubernetesApi,
    /// Until nodes lack nothing but the user's network plugin, and it is applied.
    NetworkPlugin,
    /// Until the node's three readiness layers are green.
    Ready,
    /// The cluster is taken down.
    Teardown,
}

impl Step {
    /// All steps, as they follow one another; a cluster takes those of a cold or of a warm start.
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

    /// The words a person reads.
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

/// How a step or a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should.
    Passed,
    /// Not as it should, with the cause in one or two lines.
    Failed {
        /// What was tried, what was seen, what to do next.
        cause: String,
    },
    /// Not done because something before it failed; never counts as passed.
    NotRun {
        /// What stood in the way.
        cause: String,
    },
}

impl Outcome {
    /// Whether this is [`Outcome::Passed`].
    pub fn passed(&self) -> bool {
        matches!(self, Outcome::Passed)
    }

    /// Why what is called `name` did not pass, as it stands in a verdict over several.
    pub fn cause_of(&self, name: &str) -> Option<String> {
        match self {
            Outcome::Passed => None,
            Outcome::Failed { cause } | Outcome::NotRun { cause } => Some(format!("{name}: {cause}")),
        }
    }

    /// The verdict over several, of which some failed for `causes`.
    pub fn over(causes: &[String]) -> Self {
        if causes.is_empty() { Outcome::Passed } else { Outcome::Failed { cause: causes.join("; ") } }
    }
}

/// The three layers of readiness, reported apart: a node that Kubernetes calls Ready may still be
/// in its boot sequence and reboot later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The Talos boot sequence: `MachineStatus.stage` is `running` and `ready`.
    BootSequence,
    /// Every service of the node is up (and healthy where it has a check).
    Services,
    /// The Kubernetes Node condition Ready.
    KubernetesNode,
}

impl Layer {
    /// All layers, in the order they are shown.
    pub const ALL: [Layer; 3] = [Layer::BootSequence, Layer::Services, Layer::KubernetesNode];

    /// The words a person reads.
    pub fn label(self) -> &'static str {
        match self {
            Layer::BootSequence => "boot sequence",
            Layer::Services => "services",
            Layer::KubernetesNode => "Kubernetes node",
        }
    }
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerState {
    /// Nothing has been heard of it yet.
    Unknown,
    /// On its way.
    Waiting,
    /// As it should be.
    Green,
}

/// A scenario that a run has before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name.
    pub scenario: String,
    /// The identifiers of its checks.
    pub checks: Vec<String>,
}

/// The image of a planned node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedImage {
    /// Where it came from: a path, or a reference in a registry.
    pub source: String,
    /// The names of its system extensions.
    pub extensions: Vec<String>,
}

/// What a pod asked for inside the cluster's network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A pod on a node, at its own address.
    PodOn(String),
    /// A service, at its cluster address.
    Service,
    /// A service, by its DNS name.
    ServiceName,
}

/// A link of the chain from a gateway's route to a tailnet client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChainLink {
    /// Nobody looked.
    Unknown,
    /// It holds.
    Holds,
    /// It does not, and what was seen instead.
    Broken(String),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The run began.
    RunStarted {
        /// The run's name, also its directory under `target/lab/`.
        run: String,
        /// What is run, e.g. a scenario's name.
        title: String,
        /// Wall-clock time, RFC 3339.
        wall: jiff::Timestamp,
        /// Version of the form of its events, [`FORMAT`] when it was recorded.
        #[serde(default = "first_format")]
        format: u32,
        /// Which part of a larger run it is, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<Shard>,
    },
    /// What the run will do, in this order.
    Agenda {
        /// The scenarios.
        scenarios: Vec<Planned>,
    },
    /// A scenario's block of checks begins.
    ScenarioStarted {
        /// The scenario's name.
        scenario: String,
        /// What question it answers.
        question: String,
    },
    /// The host as this run found it.
    HostMeasured {
        /// Accelerator in use (`kvm`, `hvf`, `tcg`).
        accelerator: String,
        /// QEMU version text.
        qemu: String,
        /// How many times slower than the reference host; budgets are multiplied by it.
        speed_factor: f64,
    },
    /// A cluster comes to be, in one of two ways. A warm start that fails is followed by a cold one.
    ClusterStarts {
        /// Whether a saved one is restored; else it forms.
        warm: bool,
        /// Which one, or why none.
        reason: String,
    },
    /// The machine that runs the lab, and the lab itself.
    HostSeen {
        /// The lab's version.
        lab: String,
        /// Operating system in Rust's spelling: `linux`, `macos`.
        os: String,
        /// Architecture in Rust's spelling: `x86_64`, `aarch64`.
        arch: String,
        /// Cores that the lab may use.
        cores: usize,
        /// Memory, MiB, where the system tells.
        memory_mib: Option<u64>,
    },
    /// The network of a plan.
    NetworkPlanned {
        /// The LAN, e.g. `10.5.0.0/24`.
        lan: String,
        /// Router, DNS and NTP server of the nodes: the switch itself.
        gateway: std::net::Ipv4Addr,
        /// Whose control server the tailnet has, in words; `None` without a tailnet.
        tailnet: Option<String>,
    },
    /// A node of the plan.
    NodePlanned {
        /// Its name.
        node: NodeName,
        /// What Kubernetes runs on it.
        kind: Kind,
        /// Which image it boots.
        role: Role,
        /// Its address on the lab LAN.
        address: std::net::Ipv4Addr,
        /// The image itself; older recordings do not tell it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<PlannedImage>,
    },
    /// A step began.
    StepStarted {
        /// Of which node, or of the cluster.
        subject: Subject,
        /// Which step.
        step: Step,
    },
    /// A step ended.
    StepFinished {
        /// Of which node, or of the cluster.
        subject: Subject,
        /// Which step.
        step: Step,
        /// How.
        outcome: Outcome,
    },
    /// A line of a node's serial console.
    Console {
        /// Whose.
        node: NodeName,
        /// The line, without its end and without terminal escapes.
        line: String,
    },
    /// What a node's QEMU process has cost so far.
    ResourcesSampled {
        /// Whose.
        node: NodeName,
        /// Processor time since its start, user and system together, seconds.
        cpu_seconds: f64,
        /// Resident memory, bytes.
        rss_bytes: u64,
    },
    /// An Event object of the Kubernetes API.
    KubernetesEvent {
        /// The node that it came from, else the cluster.
        subject: Subject,
        /// Whether its type is `Warning`.
        warning: bool,
        /// What it is about, `Kind/namespace/name`.
        object: String,
        /// Its reason, e.g. `BackOff`.
        reason: String,
        /// Its words.
        message: String,
        /// How often it was seen so far.
        count: u32,
    },
    /// A pod asked for something inside the cluster's network.
    NetworkAsked {
        /// The node of the pod that asked.
        from: String,
        /// What it asked for.
        target: Target,
        /// Its address or name.
        address: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// What became of one route of a tailnet.
    RouteFollowed {
        /// The gateway's host name in the tailnet.
        gateway: String,
        /// The route.
        prefix: String,
        /// The gateway told the control server of it.
        advertised: ChainLink,
        /// The control server lets the gateway have it.
        approved: ChainLink,
        /// The client uses it.
        accepted: ChainLink,
        /// A packet came back.
        reached: ChainLink,
        /// After how many milliseconds the fastest one did.
        fastest_ms: Option<u64>,
    },
    /// A node's QEMU process ended.
    MachineExited {
        /// Whose.
        node: NodeName,
        /// Exit status or signal in words.
        status: String,
        /// Whether the lab asked for it.
        expected: bool,
    },
    /// A readiness layer of a node changed.
    LayerChanged {
        /// Whose.
        node: NodeName,
        /// Which layer.
        layer: Layer,
        /// Where it stands now.
        state: LayerState,
        /// What it waits for, or what it reported.
        detail: String,
    },
    /// A check of a scenario began.
    CheckStarted {
        /// The check's identifier in its scenario.
        check: String,
        /// GIVEN … WHEN … THEN, in one line.
        title: String,
    },
    /// A check of a scenario ended.
    CheckFinished {
        /// The check's identifier in its scenario.
        check: String,
        /// GIVEN … WHEN … THEN, in one line.
        title: String,
        /// How.
        outcome: Outcome,
        /// What was observed, one fact a line.
        evidence: Vec<String>,
    },
    /// Something worth a line for a person.
    Note {
        /// About whom.
        subject: Subject,
        /// The line.
        text: String,
    },
    /// A scenario's verdict.
    ScenarioFinished {
        /// The scenario's name.
        scenario: String,
        /// The verdict.
        outcome: Outcome,
    },
    /// The run ended.
    RunFinished {
        /// The verdict over everything.
        outcome: Outcome,
    },
}

impl EventKind {
    /// Whether it is of a cluster or of checks, so that it needs a scenario to belong to.
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
    //! A duration as seconds with microseconds.
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
