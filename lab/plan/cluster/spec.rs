//! What cluster is wanted: nodes, networks, images and patches, as plain data.
//!
//! A `ClusterSpec` is what a scenario file (or `lab up`) asks for. It knows nothing of hosts,
//! files or running machines. [`ClusterSpec::validate`] says whether such a cluster can exist;
//! the plan is made only from a spec that passed.

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

/// A cluster that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// The cluster's name; `cluster.clusterName` of the machine configs.
    pub name: NodeName,
    /// Its nodes, in the order they get addresses.
    pub nodes: Vec<NodeSpec>,
    /// Its networks.
    pub network: NetworkSpec,
    /// Where each role's image comes from. Every role of `nodes` has an entry.
    pub images: BTreeMap<Role, ImageSource>,
    /// For which Talos release machine configs are written.
    pub talos_contract: TalosContract,
    /// Whether ordinary pods may run on control planes.
    pub allow_scheduling_on_control_planes: bool,
    /// How many nodes of the role `gateway` there must be.
    pub gateways: usize,
    /// What the user's own configs decide, when they are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnCluster>,
    /// Which of the lab's own patches are merged into configs.
    #[serde(default, skip_serializing_if = "LabPatches::is_default")]
    pub lab_patches: LabPatches,
    /// Machine config patches for more than one node.
    pub patches: PatchSet,
    /// Documents that are applied once their nodes are Ready, as people apply the file with an
    /// auth key: to a running node, without a reboot.
    pub late_documents: BTreeMap<Role, Vec<Patch>>,
    /// What the image of a role must and must not carry.
    pub role_rules: BTreeMap<Role, RoleRule>,
    /// The tailnet that the gateway joins.
    pub tailnet: Option<TailnetSpec>,
    /// Seconds after which a boot sequence that is not done ends in a reboot, when it shall be
    /// other than Talos' 70 minutes.
    pub boot_timeout: Option<u32>,
    /// In which order machines are started.
    pub start_order: StartOrder,
    /// Where the pod network comes from.
    pub network_plugin: NetworkPlugin,
    /// How container images come to the nodes.
    pub image_delivery: ImageDelivery,
}

/// What the image of a role must and must not carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRule {
    /// Extensions that make the role.
    pub requires: Vec<String>,
    /// Extensions that another role is made of.
    pub forbids: Vec<String>,
}

/// The extension that makes a gateway.
const TAILSCALE: &str = "tailscale";

/// The rules of the two roles that everybody has.
pub fn default_role_rules() -> BTreeMap<Role, RoleRule> {
    let rule = |requires: &[&str], forbids: &[&str]| RoleRule {
        requires: requires.iter().map(ToString::to_string).collect(),
        forbids: forbids.iter().map(ToString::to_string).collect(),
    };
    let rules = [(Role::COMPUTE, rule(&[], &[TAILSCALE])), (Role::GATEWAY, rule(&[TAILSCALE], &[]))];
    rules.into_iter().filter_map(|(name, rule)| Some((Role::new(name).ok()?, rule))).collect()
}

/// A node that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// What Kubernetes runs on it.
    pub kind: Kind,
    /// Which image it boots.
    pub role: Role,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Size,
    /// Size of its (sparse) disk.
    pub disk: Size,
    /// The user's config for it; one is generated otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<OwnFile>,
    /// Machine config patches for this node only, applied last.
    pub patches: Vec<Patch>,
    /// Formation is done when Kubernetes calls the node Ready, though an extension service without
    /// its document holds the boot sequence up.
    pub may_be_held: bool,
}

impl NodeSpec {
    /// A node with the defaults of its kind.
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

    /// Memory of a node that does not say how much.
    pub const DEFAULT_MEMORY: Size = Size::gib(2);
    /// Disk of a node that does not say how much. Sparse: it costs what is written.
    pub const DEFAULT_DISK: Size = Size::gib(6);
    /// META, STATE and EPHEMERAL must fit with a few images in the last.
    pub const MINIMUM_DISK: Size = Size::gib(2);

    /// Virtual CPUs of a node that does not say how many. Workers get one: on small hosts every
    /// further one competes with the control plane.
    pub const fn default_vcpus(kind: Kind) -> u32 {
        match kind {
            Kind::ControlPlane => 2,
            Kind::Worker => 1,
        }
    }

    /// The least memory that Talos supports for the kind.
    /// Source: "System Requirements" of the Talos documentation.
    pub const fn minimum_memory(kind: Kind) -> Size {
        match kind {
            Kind::ControlPlane => Size::gib(2),
            Kind::Worker => Size::gib(1),
        }
    }
}

/// Where a role's image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// The node image that the project builds itself.
    Reference,
    /// A variant of that image by its name, whatever the role is called.
    ReferenceVariant(String),
    /// The user's own: a directory, a file, or an image in a registry.
    Given(Source),
}

/// A patch of machine configs: a strategic merge, or operations of RFC 6902. Serializes without keys and tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// Where it was written, for error messages: a file, or a line of the scenario file.
    pub origin: String,
    /// One or more YAML documents, or a list of operations.
    #[serde(serialize_with = "without_secrets")]
    pub text: String,
}

fn without_secrets<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redact(text))
}

/// Patches for more than one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchSet {
    /// For every node.
    pub all: Vec<Patch>,
    /// For the nodes of a kind.
    pub kinds: BTreeMap<Kind, Vec<Patch>>,
    /// For the nodes of a role.
    pub roles: BTreeMap<Role, Vec<Patch>>,
}

impl PatchSet {
    /// The patches of a node in the order they apply: all, kind, role, node.
    pub fn of<'a>(&'a self, node: &'a NodeSpec) -> impl Iterator<Item = &'a Patch> {
        let of_kind = self.kinds.get(&node.kind).into_iter().flatten();
        let of_role = self.roles.get(&node.role).into_iter().flatten();
        self.all.iter().chain(of_kind).chain(of_role).chain(&node.patches)
    }
}

impl ClusterSpec {
    /// A cluster of `control_planes` and `workers` nodes of the role `compute` from the reference
    /// image, named `cp-1`… and `worker-1`…; what `lab up` forms.
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
            talos_contract: TalosContract::default(),
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

    /// The same cluster with its last node as the gateway of a tailnet.
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

    /// The node of this name.
    pub fn node(&self, name: &NodeName) -> Option<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// The nodes of a kind, in order.
    pub fn nodes_of(&self, kind: Kind) -> impl Iterator<Item = &NodeSpec> {
        self.nodes.iter().filter(move |node| node.kind == kind)
    }

    /// The patches of a node in the order they apply: all, kind, role, node.
    pub fn patches_for<'a>(&'a self, node: &'a NodeSpec) -> impl Iterator<Item = &'a Patch> {
        self.patches.of(node)
    }

    /// The address on the lab LAN of the node at `index` of the list; `None` when the LAN has none left.
    pub fn address(&self, index: usize) -> Option<Ipv4Addr> {
        match &self.own {
            Some(own) => own.addresses.get(&self.nodes.get(index)?.name).copied(),
            None => self.network.node_address(index),
        }
    }

    /// The gateway of the lab LAN.
    pub fn gateway(&self) -> Ipv4Addr {
        self.own.as_ref().map_or_else(|| self.network.gateway(), |own| own.gateway)
    }

    /// What the nodes are given together; the least that the host must have free.
    pub fn total_memory(&self) -> Size {
        Size::mib(self.nodes.iter().map(|node| node.memory.as_mib()).sum())
    }
}
