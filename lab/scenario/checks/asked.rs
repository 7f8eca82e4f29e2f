//! What becomes of a question that a pod asks.

use lab_cluster::kubernetes::KubernetesError;
use lab_model::{node::NodeName, words::chain};
use serde::Deserialize;

/// Why a question that a pod was to ask has no right answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The pod could not be reached through the API server.
    #[error("the pod on {node} could not be asked: {source}")]
    NoPodProxy {
        /// The pod's node.
        node: String,
        /// What the API server said.
        source: KubernetesError,
    },
    /// The pod could not be reached from the host.
    #[error("the pod on {node} cannot be asked: {}", chain(.source))]
    NoNodePort {
        /// The pod's node.
        node: NodeName,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The pod was asked, and its request failed.
    #[error("{0}")]
    Request(String),
    /// The wrong pod answered.
    #[error("the pod on {node} answered, which is the wrong one")]
    WrongPod {
        /// Its node.
        node: String,
    },
    /// Something else than an echo server answered the pod.
    #[error("status {status} and no echo server's answer")]
    NoEcho {
        /// The HTTP status.
        status: u16,
    },
    /// Something else than the pod that was asked about answered.
    #[error("status {status} and not the answer of the pod on {node}")]
    NotThePod {
        /// The HTTP status.
        status: u16,
        /// The node of the pod.
        node: NodeName,
    },
    /// Something else than an echo server answered the host.
    #[error("\"{text}\" answered")]
    NoProbe {
        /// What it said.
        text: String,
    },
    /// A transfer ended early.
    #[error("{bytes} bytes came")]
    Short {
        /// How much of it came.
        bytes: u64,
    },
    /// There is no pod to ask, or to ask about.
    #[error("there is no pod on {from} or {to}")]
    NoPod {
        /// The node of the one that asks.
        from: NodeName,
        /// The node of the other one.
        to: NodeName,
    },
    /// It was tried as often as a formed cluster may need.
    #[error("{last} ({tries} tries)")]
    Tries {
        /// How often.
        tries: u32,
        /// The last failure.
        #[source]
        last: Box<AskError>,
    },
    /// A failure, and what it means.
    #[error("{what}: {source}")]
    Means {
        /// What it means.
        what: String,
        /// The failure.
        source: Box<AskError>,
    },
}

impl AskError {
    /// Puts before an error what it means.
    pub(super) fn means(what: String) -> impl FnOnce(Self) -> Self {
        move |source| Self::Means { what, source: Box::new(source) }
    }
}

impl From<lab_cluster::wait::Expired<AskError>> for AskError {
    fn from(expired: lab_cluster::wait::Expired<AskError>) -> Self {
        Self::Tries { tries: expired.looks, last: Box::new(expired.last) }
    }
}

/// What an echo server says of a request that it made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Probed {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) bytes: u64,
    pub(super) error: String,
}
