//! The outcome of a request that a pod makes.

use std::time::Duration;

use lab_cluster::kubernetes::KubernetesError;
use lab_model::{node::NodeName, words::chain};
use serde::Deserialize;

/// Why a request from a pod has no correct response.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The pod could not be reached through the API server.
    #[error("the pod on {node} could not be asked: {source}")]
    NoPodProxy { node: String, source: KubernetesError },
    /// The pod could not be reached from the host.
    #[error("the pod on {node} cannot be asked: {}", chain(.source))]
    NoNodePort { node: NodeName, source: reqwest::Error },
    /// The pod made the request, and the request failed.
    #[error("{0}")]
    Request(String),
    /// The wrong pod responded.
    #[error("the pod on {node} answered, which is the wrong one")]
    WrongPod {
        /// The node of the pod that responded.
        node: String,
    },
    /// The pod received a response that is not from an echo server.
    #[error("status {status} and no echo server's answer")]
    NoEcho {
        /// The HTTP status.
        status: u16,
    },
    /// A workload gave another response than it should.
    #[error("status {status} and not the expected answer: \"{body}\"")]
    OtherAnswer {
        /// The HTTP status.
        status: u16,
        /// The beginning of the response.
        body: String,
    },
    /// The response is not from the requested pod.
    #[error("status {status} and not the answer of the pod on {node}")]
    NotThePod {
        /// The HTTP status.
        status: u16,
        /// The node of the requested pod.
        node: NodeName,
    },
    /// The host received a response that is not from an echo server.
    #[error("\"{text}\" answered")]
    NoProbe {
        /// The response text.
        text: String,
    },
    /// A transfer ended early.
    #[error("{bytes} bytes came")]
    Short {
        /// Bytes that arrived.
        bytes: u64,
    },
    /// The source pod or the target pod does not exist.
    #[error("there is no pod on {from} or {to}")]
    NoPod {
        /// The node of the source pod.
        from: NodeName,
        /// The node of the target pod.
        to: NodeName,
    },
    /// All retries that a formed cluster may need have failed.
    #[error("{last} ({tries} tries within {} s)", limit.as_secs())]
    Tries {
        tries: u32,
        /// The time that the retries had.
        limit: Duration,
        /// The last failure.
        #[source]
        last: Box<AskError>,
    },
    /// A failure with an explanation.
    #[error("{what}: {source}")]
    Means { what: String, source: Box<AskError> },
}

impl AskError {
    /// Adds an explanation in front of an error.
    pub(super) fn means(what: String) -> impl FnOnce(Self) -> Self {
        move |source| Self::Means { what, source: Box::new(source) }
    }
}

impl From<lab_cluster::wait::Expired<AskError>> for AskError {
    fn from(expired: lab_cluster::wait::Expired<AskError>) -> Self {
        Self::Tries { tries: expired.looks, limit: expired.limit, last: Box::new(expired.last) }
    }
}

/// The report of an echo server about a request that it made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Probed {
    pub(super) status: u16,
    pub(super) body: String,
    pub(super) bytes: u64,
    pub(super) error: String,
}
