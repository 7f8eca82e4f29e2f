//! Why there is no plan.

use lab_model::{
    Digest,
    node::{NodeName, Role},
};

use super::validation::SpecError;
use crate::config::{ConfigError, SecretsError};

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec is impossible.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Spec(Vec<SpecError>),
    /// etcd would have to grow, which the lab does not do.
    #[error("{count} control plane nodes are asked for; the lab forms clusters with exactly one")]
    ControlPlanes {
        /// How many.
        count: usize,
    },
    /// The LAN has no address for a node.
    #[error("the LAN {lan} has no address left for node {node}; take a larger network")]
    LanFull {
        /// The LAN.
        lan: ipnet::Ipv4Net,
        /// The node.
        node: NodeName,
    },
    /// An image was not prepared; a fault of the caller.
    #[error("no image was prepared for role {0}")]
    Image(Role),
    /// A fault for a node that is not there.
    #[error("a fault is asked for in node {0}, but the cluster has no such node")]
    Fault(NodeName),
    /// An image that does not fit its role.
    #[error(
        "the image of role {role} ({digest}) {problem}, so node {node} could not do what its role is for; give the \
         role its own image, or change cluster.roles if the role is meant otherwise"
    )]
    WrongImage {
        /// The role.
        role: Role,
        /// The image.
        digest: Digest,
        /// What is wrong with it.
        problem: String,
        /// A node of the role.
        node: NodeName,
    },
    /// A fault that cannot be put in.
    #[error("the fault for node {node} cannot be put in: {problem}")]
    ImpossibleFault {
        /// The node.
        node: NodeName,
        /// Why.
        problem: String,
    },
    /// A patch cannot be used.
    #[error("{origin}, a patch of node {node}: {source}")]
    Patch {
        /// Whose config.
        node: NodeName,
        /// Where the patch stands.
        origin: String,
        /// Why.
        source: ConfigError,
    },
    /// A name by which the lab would not find the node.
    #[error(
        "the machine config of node {node} {}; the lab finds nodes by their names: call the node so in the scenario, \
         or leave the name to the lab (its patch lab/hostname)",
        .said.as_ref().map_or("does not name it".to_owned(), |said| format!("names it {said}"))
    )]
    Hostname {
        /// The node.
        node: NodeName,
        /// What its config says.
        said: Option<String>,
    },
    /// A second network plugin beside the user's own.
    #[error(
        "the manifests of cluster.cni are to be the network plugin, and the machine config of node {node} brings \
         one too (cluster.network.cni is {plugin}): let no patch set it and keep the lab's patch lab/network-plugin, \
         or leave cluster.cni out"
    )]
    TwoNetworkPlugins {
        /// The node.
        node: NodeName,
        /// Which its config brings.
        plugin: String,
    },
    /// Secrets of the user's that cannot be used.
    #[error("{file}: {source}; it needs the secrets as talosctl gen config wrote them")]
    OwnSecrets {
        /// The file.
        file: String,
        /// Why.
        source: SecretsError,
    },
    /// Secrets cannot be made.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}
