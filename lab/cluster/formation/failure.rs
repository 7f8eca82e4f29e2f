//! Failures of formation: node, step and cause.

use std::{fmt, time::Duration};

use lab_model::{
    events::{Step, Subject, TurnedAway},
    files::comes_from_exhaustion,
    node::NodeName,
    words::chain,
};
use lab_vm::{
    machine::{MachineError, MachineFailure},
    network::NetworkError,
};

use super::{final_service::FinalService, hold::Hold, warm::WarmError};
use crate::{kubernetes::KubernetesError, machine_api::ApiError, tailnet::TailnetError};

/// A failed step of formation.
#[derive(Debug)]
pub struct Failure {
    /// The node or the cluster that failed.
    pub subject: Subject,
    pub step: Step,
    pub cause: Cause,
    /// The results of the node's diagnosis, one sentence each.
    pub findings: Vec<String>,
    /// The part of the node that the cluster rejects, if known.
    pub turned_away: Option<TurnedAway>,
}

/// The reason why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The VM exited, or its console shows a fatal error.
    #[error(transparent)]
    Machine(#[from] MachineFailure),
    /// The VM could not be started or did not execute a command.
    #[error("{}", chain(.0))]
    Start(#[from] MachineError),
    /// The node has no VM.
    #[error(transparent)]
    NoMachine(#[from] NoMachine),
    /// A port of the node is not forwarded to the host.
    #[error(transparent)]
    NotForwarded(#[from] NotForwarded),
    /// The LAN does not work.
    #[error("{}", chain(.0))]
    Network(#[from] NetworkError),
    /// The machine API returned an error that a retry does not solve.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The Kubernetes API returned an error that a retry does not solve.
    #[error("{}", chain(.0))]
    Kubernetes(#[from] KubernetesError),
    /// A file of the run could not be read or written.
    #[error("{action}: {source}")]
    File {
        /// The failed action, as a verb with its object.
        action: String,
        source: std::io::Error,
    },
    /// The tailnet's control server or its outside client failed.
    #[error("{}", chain(.0))]
    Tailnet(#[from] TailnetError),
    /// The boot sequence waits for a document that the lab does not have.
    #[error("{0}")]
    Held(Hold),
    /// A node needs an image that it cannot get.
    #[error(
        "a node asked for the image {image}, which the mirror lacks, and the cluster does not form without it{}; fetch \
         it while online (lab mirror pull {image}), or name the image that the mirror has in the machine config",
        .planned.as_ref().map(|planned| format!(" (the plan expected {planned})")).unwrap_or_default()
    )]
    MissingImage {
        /// The full reference.
        image: String,
        /// The image of the same name that the plan expected.
        planned: Option<String>,
    },
    /// A service of the node ended for good.
    #[error("{0}")]
    Service(FinalService),
    /// A node lost its machine config.
    #[error(
        "it woke up in maintenance mode, without the machine config that it had; look at its disk: STATE is lost"
    )]
    Forgotten,
    /// The image contains a network plugin, but the user provides another one in `cluster.cni`.
    #[error(
        "node {node} is Ready before the network plugin of cluster.cni was applied: its image contains another one, \
         as a file below /etc/cni/net.d; look at its extensions"
    )]
    NetworkPluginThere { node: String },
    /// The cluster rejects the node permanently.
    #[error("{finding} (rejected {times} times since the control plane's own node joined)")]
    TurnedAway {
        /// The part of the node that the cluster rejects.
        what: TurnedAway,
        /// The meaning of the node's log.
        finding: &'static str,
        /// The number of rejections.
        times: usize,
    },
    /// A saved cluster could not be used.
    #[error(transparent)]
    Warm(#[from] WarmError),
    /// The step did not finish in time.
    #[error("not done within {} s; last seen: {last_seen}", limit.as_secs())]
    Deadline {
        /// The budget of the step.
        limit: Duration,
        /// The last observation, as a fragment.
        last_seen: String,
    },
}

/// The node has no running machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{node} has no QEMU; lab node reboot {node} starts it")]
pub struct NoMachine {
    pub node: NodeName,
}

/// The port of a node is not forwarded to the host.
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
    /// Returns the reason in one line: the findings with the cause, or the cause alone.
    pub fn reason(&self) -> String {
        if self.findings.is_empty() {
            self.cause.to_string()
        } else {
            format!("{} ({})", self.findings.join("; "), self.cause)
        }
    }

    /// Whether the host has no space or no file descriptors left, so that the failure says nothing about the images.
    pub fn is_of_the_host(&self) -> bool {
        self.cause.is_of_the_host()
    }
}

impl Cause {
    /// See [`Failure::is_of_the_host`].
    pub(super) fn is_of_the_host(&self) -> bool {
        match self {
            Self::Machine(failure) | Self::Start(MachineError::Failed(failure)) => failure.is_of_the_host(),
            cause => comes_from_exhaustion(cause),
        }
    }
}

impl fmt::Display for Failure {
    /// Writes one line: subject, step and reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Cluster => f.write_str("the cluster")?,
            Subject::Node(node) => write!(f, "node {node}")?,
        }
        write!(f, " failed at step \"{}\": {}", self.step.label(), self.reason())
    }
}

impl std::error::Error for Failure {}
