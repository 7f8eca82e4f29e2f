//! How formation fails: which node, at which step, why.

use std::{fmt, time::Duration};

use lab_model::{
    events::{Step, Subject, TurnedAway},
    node::NodeName,
    words::chain,
};
use lab_vm::{
    machine::{MachineError, MachineFailure},
    network::NetworkError,
};

use super::{hold::Hold, warm::WarmError};
use crate::{kubernetes::KubernetesError, machine_api::ApiError, tailnet::TailnetError};

/// The end of a formation, or of a wait, with its cause.
#[derive(Debug)]
pub struct Failure {
    /// Which node, or the cluster.
    pub subject: Subject,
    /// At which step.
    pub step: Step,
    /// Why.
    pub cause: Cause,
    /// What a look at the node says about the cause, one sentence each.
    pub findings: Vec<String>,
    /// What of the node the cluster does not accept, when that was found out.
    pub turned_away: Option<TurnedAway>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The VM died or its console shows that it cannot go on.
    #[error(transparent)]
    Machine(#[from] MachineFailure),
    /// The VM could not be started or commanded.
    #[error("{}", chain(.0))]
    Start(#[from] MachineError),
    /// The node has no VM.
    #[error(transparent)]
    NoMachine(#[from] NoMachine),
    /// A port of the node does not lead to the host.
    #[error(transparent)]
    NotForwarded(#[from] NotForwarded),
    /// The LAN broke.
    #[error("{}", chain(.0))]
    Network(#[from] NetworkError),
    /// The machine API refused for good.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The Kubernetes API refused for good.
    #[error("{}", chain(.0))]
    Kubernetes(#[from] KubernetesError),
    /// A file of the run.
    #[error("{action}: {source}")]
    File {
        /// What was tried.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tailnet's control server.
    #[error("{}", chain(.0))]
    Tailnet(#[from] TailnetError),
    /// The boot sequence waits for a document that nobody will send.
    #[error("{0}")]
    Held(Hold),
    /// A node that had a machine config has none any more.
    #[error(
        "it woke up in maintenance mode, without the machine config that it had; look at its disk: STATE is lost"
    )]
    Forgotten,
    /// An image brings a network plugin, though the user's own was to be it.
    #[error(
        "node {node} is Ready before the network plugin of cluster.cni was applied: its image brings one, as a \
         file below /etc/cni/net.d; look at its extensions"
    )]
    NetworkPluginThere {
        /// Which node.
        node: String,
    },
    /// The cluster turns the node away, however often it asks.
    #[error("{finding} (turned away {times} times since the control plane's own node was let in)")]
    TurnedAway {
        /// What of the node it does not accept.
        what: TurnedAway,
        /// What the node's log means.
        finding: &'static str,
        /// How often it was seen.
        times: usize,
    },
    /// A saved cluster.
    #[error(transparent)]
    Warm(#[from] WarmError),
    /// It did not come true in time.
    #[error("not done within {} s; last seen: {last_seen}", limit.as_secs())]
    Deadline {
        /// The step's budget.
        limit: Duration,
        /// What was seen last.
        last_seen: String,
    },
}

/// A node without a machine to act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node} has no QEMU; lab node reboot {node} starts it")]
pub struct NoMachine {
    /// Its name.
    pub node: NodeName,
}

/// A node's port that does not lead to the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("reach {what}: its port is not forwarded")]
pub struct NotForwarded {
    what: String,
}

impl NotForwarded {
    pub(super) fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string() }
    }
}

impl Failure {
    /// Why, in one line: what was found out, else what was seen.
    pub fn reason(&self) -> String {
        if self.findings.is_empty() {
            self.cause.to_string()
        } else {
            format!("{} ({})", self.findings.join("; "), self.cause)
        }
    }
}

impl fmt::Display for Failure {
    /// One line: node, step, reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Cluster => f.write_str("the cluster")?,
            Subject::Node(node) => write!(f, "node {node}")?,
        }
        write!(f, " failed at step \"{}\": {}", self.step.label(), self.reason())
    }
}

impl std::error::Error for Failure {}
