//! The desired cluster as plain data: nodes, networks, images and patches.
//!
//! A scenario file or `lab up` produces a `ClusterSpec`. The spec does not depend on hosts, files or
//! running machines. [`ClusterSpec::validate`] checks that the cluster is possible. A plan requires a
//! valid spec.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::{image_delivery::ImageDelivery, network_plugin::NetworkPlugin, order::StartOrder};
pub use crate::config::TalosContract;
use crate::own_configs::{OwnCluster, OwnFile};
use crate::{cluster::TailnetSpec, config::LabPatches, network::NetworkSpec};
use lab_model::Size;
use lab_model::Source;
use lab_model::node::{Kind, NodeName, Role};
use lab_model::redact;

/// The specification of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Cluster name; `cluster.clusterName` in the machine configs.
    pub name: NodeName,
    /// The nodes, in the order of address assignment.
    pub nodes: Vec<NodeSpec>,
    pub network: NetworkSpec,
    /// The image source of each role. Every role in `nodes` has an entry.
    pub images: BTreeMap<Role, ImageSource>,
    /// The Talos release line that the machine configs target. `None` means that of each node's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub talos_contract: Option<TalosContract>,
    /// Kubernetes version without `v`. `None` means the default of the control plane's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Whether control planes accept ordinary pods.
    pub allow_scheduling_on_control_planes: bool,
    /// Required number of nodes with the role `gateway`.
    pub gateways: usize,
    /// Settings from the user's own configs, if the cluster uses them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnCluster>,
    /// The lab patches that the lab merges into configs.
    #[serde(default, skip_serializing_if = "LabPatches::is_default")]
    pub lab_patches: LabPatches,
    /// Machine config patches for multiple nodes.
    pub patches: PatchSet,
    /// Documents that the lab applies after the nodes are Ready. This matches the usual procedure for a
    /// file with an auth key: users apply it to a running node, without a reboot.
    pub late_documents: BTreeMap<Role, Vec<Patch>>,
    /// Required and forbidden extensions of each role's image.
    pub role_rules: BTreeMap<Role, RoleRule>,
    /// The tailnet of the gateway.
    pub tailnet: Option<TailnetSpec>,
    /// Timeout in seconds on the reference host. An incomplete boot sequence then ends in a reboot. `None`
    /// means the Talos default of 70 minutes.
    pub boot_timeout: Option<u32>,
    /// The start order of the machines.
    pub start_order: StartOrder,
    /// The source of the pod network.
    pub network_plugin: NetworkPlugin,
    /// The delivery method for container images.
    pub image_delivery: ImageDelivery,
}

/// Required and forbidden extensions of a role's image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRule {
    /// Extensions that define the role.
    pub requires: Vec<String>,
    /// Extensions that define another role.
    pub forbids: Vec<String>,
}

/// The extension that defines a gateway.
const TAILSCALE: &str = "tailscale";

/// The rules of the two built-in roles.
pub fn default_role_rules() -> BTreeMap<Role, RoleRule> {
    let rule = |requires: &[&str], forbids: &[&str]| RoleRule {
        requires: requires.iter().map(ToString::to_string).collect(),
        forbids: forbids.iter().map(ToString::to_string).collect(),
    };
    let rules = [(Role::COMPUTE, rule(&[], &[TAILSCALE])), (Role::GATEWAY, rule(&[TAILSCALE], &[]))];
    rules.into_iter().filter_map(|(name, rule)| Some((Role::new(name).ok()?, rule))).collect()
}

/// The specification of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Node name, unique in the cluster.
    pub name: NodeName,
    /// Kubernetes node type: control plane or worker.
    pub kind: Kind,
    /// The role, which selects the image.
    pub role: Role,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    pub memory: Size,
    /// Size of the sparse disk.
    pub disk: Size,
    /// The user's config for the node. `None` means a generated config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<OwnFile>,
    /// Machine config patches for this node only, applied last.
    pub patches: Vec<Patch>,
    /// If set, formation is complete when the node is Ready in Kubernetes, even if an extension service
    /// without its document blocks the boot sequence.
    pub may_be_held: bool,
}

impl NodeSpec {
    /// Creates a node with the defaults of its kind.
    pub fn new(name: NodeName, kind: Kind, role: Role) -> Self {
        Self {
            name,
            kind,
            role,
            vcpus: Self::default_vcpus(kind),
            memory: Self::DEFAULT_MEMORY,
            disk: Self::DEFAULT_DISK,
            config: None,
            patches: Vec::new(),
            may_be_held: false,
        }
    }

    /// Default memory of a node.
    pub const DEFAULT_MEMORY: Size = Size::gib(2);
    /// Default disk size of a node. The disk is sparse and uses only the space that the guest writes.
    pub const DEFAULT_DISK: Size = Size::gib(6);
    /// Minimum disk size. META, STATE and EPHEMERAL must fit, with a few images in EPHEMERAL.
    pub const MINIMUM_DISK: Size = Size::gib(2);

    /// Default number of virtual CPUs. Workers get one: on small hosts, additional CPUs compete with the
    /// control plane.
    pub const fn default_vcpus(kind: Kind) -> u32 {
        match kind {
            Kind::ControlPlane => 2,
            Kind::Worker => 1,
        }
    }

    /// The minimum memory that Talos supports for the kind. Source: "System Requirements" of the Talos
    /// documentation.
    pub const fn minimum_memory(kind: Kind) -> Size {
        match kind {
            Kind::ControlPlane => Size::gib(2),
            Kind::Worker => Size::gib(1),
        }
    }
}

/// The image source of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// The reference node image, which the project builds.
    Reference,
    /// A variant of the reference image, by variant name. The role name can differ.
    ReferenceVariant(String),
    /// A user image: a directory, a file, or an image in a registry.
    Given(Source),
}

/// A machine config patch: a strategic merge patch or a JSON patch (RFC 6902). Serialization removes keys
/// and tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// Origin for error messages: a file, or a line of the scenario file.
    pub origin: String,
    /// One or more YAML documents, or a list of JSON patch operations.
    #[serde(serialize_with = "without_secrets")]
    pub text: String,
}

fn without_secrets<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redact(text))
}

/// Patches for multiple nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchSet {
    /// Patches for every node.
    pub all: Vec<Patch>,
    /// Patches for the nodes of each kind.
    pub kinds: BTreeMap<Kind, Vec<Patch>>,
    /// Patches for the nodes of each role.
    pub roles: BTreeMap<Role, Vec<Patch>>,
}

impl PatchSet {
    /// Returns the patches of a node in the order of application: all, kind, role, node.
    pub fn of<'a>(&'a self, node: &'a NodeSpec) -> impl Iterator<Item = &'a Patch> {
        let of_kind = self.kinds.get(&node.kind).into_iter().flatten();
        let of_role = self.roles.get(&node.role).into_iter().flatten();
        self.all.iter().chain(of_kind).chain(of_role).chain(&node.patches)
    }
}

impl ClusterSpec {
    /// Creates a cluster of `control_planes` and `workers` nodes with the role `compute` and the
    /// reference image. The node names are `cp-1`… and `worker-1`…. `lab up` forms this cluster.
    pub fn of_compute_nodes(
        name: NodeName,
        control_planes: usize,
        workers: usize,
    ) -> Result<Self, lab_model::node::InvalidNodeName> {
        let role = Role::new(Role::COMPUTE)?;
        let mut nodes = Vec::new();
        for (prefix, kind, count) in
            [("cp", Kind::ControlPlane, control_planes), ("worker", Kind::Worker, workers)]
        {
            for n in 1..=count {
                nodes.push(NodeSpec::new(NodeName::new(format!("{prefix}-{n}"))?, kind, role.clone()));
            }
        }
        Ok(Self {
            name,
            nodes,
            network: NetworkSpec::default(),
            images: BTreeMap::from([(role, ImageSource::Reference)]),
            talos_contract: None,
            kubernetes_version: None,
            allow_scheduling_on_control_planes: true,
            gateways: 0,
            own: None,
            lab_patches: LabPatches::default(),
            patches: PatchSet::default(),
            late_documents: BTreeMap::new(),
            role_rules: default_role_rules(),
            tailnet: None,
            boot_timeout: None,
            start_order: StartOrder::default(),
            network_plugin: NetworkPlugin::default(),
            image_delivery: ImageDelivery::default(),
        })
    }

    /// Makes the last node the gateway of a tailnet.
    #[must_use]
    pub fn with_tailnet(mut self, tailnet: TailnetSpec) -> Self {
        if let (Some(node), Ok(role)) = (self.nodes.last_mut(), Role::new(Role::GATEWAY)) {
            node.role = role.clone();
            self.images.insert(role, ImageSource::Reference);
            self.images.retain(|role, _| self.nodes.iter().any(|node| node.role == *role));
        }
        self.gateways = 1;
        self.tailnet = Some(tailnet);
        self
    }

    /// Returns the node with the given name.
    pub fn node(&self, name: &NodeName) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// Returns the nodes of a kind, in order.
    pub fn nodes_of(&self, kind: Kind) -> impl Iterator<Item = &NodeSpec> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    /// Returns the patches of a node in the order of application: all, kind, role, node.
    pub fn patches_for<'a>(&'a self, node: &'a NodeSpec) -> impl Iterator<Item = &'a Patch> {
        self.patches.of(node)
    }

    /// Returns the lab LAN address of the node at `index` in the list. Returns `None` if the LAN has no
    /// free address.
    pub fn address(&self, index: usize) -> Option<Ipv4Addr> {
        match &self.own {
            Some(own) => own.addresses.get(&self.nodes.get(index)?.name).copied(),
            None => self.network.node_address(index),
        }
    }

    /// Returns the gateway address of the lab LAN.
    pub fn gateway(&self) -> Ipv4Addr {
        self.own.as_ref().map_or_else(|| self.network.gateway(), |own| own.gateway)
    }

    /// Returns the total memory of all nodes. The host must have at least this much free memory.
    pub fn total_memory(&self) -> Size {
        Size::mib(self.nodes.iter().map(|node| node.memory.as_mib()).sum())
    }
}
