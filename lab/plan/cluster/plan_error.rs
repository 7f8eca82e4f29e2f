//! Planning errors.

use lab_model::{
    Digest,
    node::{NodeName, Role},
};

use super::{kernel_arguments::COMMAND_LINE_SIZE, validation::SpecError};
use crate::config::{ConfigError, SecretsError, TalosContract, TalosRelease};

/// The reason that planning fails.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The spec is impossible.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Spec(Vec<SpecError>),
    /// More control planes would require a growing etcd cluster, which the lab does not support.
    #[error("{count} control plane nodes are requested; the lab forms clusters with exactly one")]
    ControlPlanes {
        /// Number of control planes.
        count: usize,
    },
    /// The LAN has no free address for a node.
    #[error("the LAN {lan} has no address left for node {node}; take a larger network")]
    LanFull {
        lan: ipnet::Ipv4Net,
        /// The first node without an address.
        node: NodeName,
    },
    /// An image was not prepared. This is a caller error.
    #[error("no image was prepared for role {0}")]
    Image(Role),
    /// A fault refers to an unknown node.
    #[error("a fault is requested for node {0}, but the cluster has no such node")]
    Fault(NodeName),
    /// An image does not match its role.
    #[error(
        "the image of role {role} ({digest}) {problem}, so node {node} could not do what its role is for; give the \
         role its own image, or change cluster.roles if the role should have other extensions"
    )]
    WrongImage {
        role: Role,
        /// The digest of the image.
        digest: Digest,
        problem: String,
        /// A node with this role.
        node: NodeName,
    },
    /// The image does not name its Talos release.
    #[error(
        "the image of role {role} says in etc/os-release that it is \"{}\", which names no Talos release; say \
         cluster.talosContract if it is one the lab knows",
        .software.escape_debug()
    )]
    UnknownRelease {
        role: Role,
        /// The name in the image.
        software: String,
    },
    /// The release has no contract.
    #[error("the image of role {role} is Talos {release}; the lab forms clusters of Talos v1.11 and later")]
    OldRelease { role: Role, release: TalosRelease },
    /// The scenario contradicts the image.
    #[error(
        "the image of role {role} is Talos {release}, and the scenario says `talosContract: {}`; leave it out: machine \
         configs follow the image",
        .said.as_str()
    )]
    Contract {
        role: Role,
        release: TalosRelease,
        /// The contract of the scenario.
        said: TalosContract,
    },
    /// An image cannot run the requested Kubernetes version.
    #[error(
        "the scenario asks for Kubernetes v{asked}, and the image of role {role} {problem}; change \
         cluster.kubernetesVersion, or leave it out to get the version of the image"
    )]
    KubernetesVersion {
        role: Role,
        /// The version of the scenario.
        asked: String,
        /// The versions of the image.
        problem: String,
    },
    /// The kernel cuts longer command lines.
    #[error(
        "the kernel arguments of node {node} have {bytes} bytes, and an arm64 kernel reads {} of them; build the image \
         with fewer extra kernel arguments",
        COMMAND_LINE_SIZE - 1
    )]
    LongArguments { node: NodeName, bytes: usize },
    /// A fault cannot be injected.
    #[error("the fault for node {node} cannot be injected: {problem}")]
    ImpossibleFault {
        node: NodeName,
        /// The reason that the injection is impossible.
        problem: String,
    },
    /// A patch is unusable.
    #[error("{origin}, a patch of node {node}: {source}")]
    Patch {
        /// The node of the config.
        node: NodeName,
        /// The origin of the patch.
        origin: String,
        source: ConfigError,
    },
    /// The host name in the config does not match the node name, so the lab cannot find the node.
    #[error(
        "the machine config of node {node} {}; the lab finds nodes by their names: call the node so in the scenario, \
         or leave the name to the lab (its patch lab/hostname)",
        .said.as_ref().map_or("does not name it".to_owned(), |said| format!("names it {said}"))
    )]
    Hostname {
        node: NodeName,
        /// The host name in the config.
        said: Option<String>,
    },
    /// The config enables a network plugin in addition to the user's plugin.
    #[error(
        "the manifests of cluster.cni are to be the network plugin, and the machine config of node {node} brings \
         one too (cluster.network.cni is {plugin}): let no patch set it and keep the lab's patch lab/network-plugin, \
         or leave cluster.cni out"
    )]
    TwoNetworkPlugins {
        node: NodeName,
        /// The plugin in the config.
        plugin: String,
    },
    /// The user's secrets are unusable.
    #[error("{file}: {source}; it needs the secrets as talosctl gen config wrote them")]
    OwnSecrets {
        /// The file that contains the user's secrets.
        file: String,
        source: SecretsError,
    },
    /// The secrets cannot be generated.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}
