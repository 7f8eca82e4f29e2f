//! Why a check cannot go on.

use lab_cluster::{
    formation::{Cause, Failure, NodeError},
    kubernetes::KubernetesError,
    machine_api::ApiError,
    tailnet::TailnetError,
};
use lab_model::{node::NodeName, words::chain};
use lab_vm::network::NetworkError;

use super::asked::AskError;

#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    MachineApi(#[from] ApiError),
    /// The Kubernetes API, or a workload that does not start.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The node does not exist, or its machine does not respond.
    #[error(transparent)]
    Node(Box<NodeError>),
    #[error(transparent)]
    Tailnet(#[from] TailnetError),
    #[error("{}", chain(.0))]
    Network(#[from] NetworkError),
    /// A step of a restarted node.
    #[error(transparent)]
    Step(Box<Failure>),
    /// A document that the check applied to a node.
    #[error(transparent)]
    Document(Box<Cause>),
    /// A request from a pod.
    #[error(transparent)]
    Asked(#[from] AskError),
    /// An HTTP client for requests from the host.
    #[error("{}", chain(.0))]
    Http(#[from] reqwest::Error),
    /// The cluster does not have what the check needs.
    #[error("{0}")]
    Lacks(String),
    /// An observation makes the rest of the check impossible.
    #[error("{0}")]
    Seen(String),
    /// An error on one node.
    #[error("{node}: {source}")]
    OfNode { node: NodeName, source: Box<CheckError> },
}

impl From<NodeError> for CheckError {
    fn from(error: NodeError) -> Self {
        Self::Node(Box::new(error))
    }
}

impl From<Failure> for CheckError {
    fn from(failure: Failure) -> Self {
        Self::Step(Box::new(failure))
    }
}

impl From<Cause> for CheckError {
    fn from(cause: Cause) -> Self {
        Self::Document(Box::new(cause))
    }
}

impl CheckError {
    /// The cluster does not have what the check needs.
    pub(super) fn lacks(what: impl Into<String>) -> Self {
        Self::Lacks(what.into())
    }

    /// An observation makes the rest of the check impossible.
    pub(super) fn seen(what: impl Into<String>) -> Self {
        Self::Seen(what.into())
    }

    /// Adds the node name in front of an error.
    pub(super) fn of<E: Into<Self>>(node: &NodeName) -> impl FnOnce(E) -> Self {
        move |error| Self::OfNode { node: node.clone(), source: Box::new(error.into()) }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn an_error_of_a_node_is_told_with_its_source() {
        let node: NodeName = "worker-1".parse().expect("name");
        let error = CheckError::of(&node)(KubernetesError::NoService { name: "a/b".into() });
        assert!(error.to_string().starts_with("worker-1: there is no service a/b"), "{error}");
        assert!(
            error.source().is_some_and(|source| source.to_string().starts_with("there is no service a/b"))
        );
    }
}
