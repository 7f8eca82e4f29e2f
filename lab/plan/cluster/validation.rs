//! Whether a cluster as asked for can exist.

use ipnet::Ipv4Net;
use lab_model::{
    Size,
    node::{Kind, NodeName, Role},
};

use super::spec::{ClusterSpec, NodeSpec};
use crate::network::TAILNET;

/// More virtual CPUs than any host of this kind has; larger numbers are typing errors.
const MOST_VCPUS: u32 = 64;

/// Why a cluster cannot exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No node runs etcd and the API server.
    #[error("the cluster has no control plane; give one node the kind controlplane")]
    NoControlPlane,
    /// etcd would have to grow, which the lab cannot do yet.
    #[error(
        "the cluster has {0} control planes; the lab forms clusters with exactly one so far: make the others workers"
    )]
    ControlPlanes(usize),
    /// Two nodes of one name.
    #[error("the node name {0} is used twice; names must be unique, they become Kubernetes node names")]
    DuplicateNode(NodeName),
    /// Less memory than Talos supports.
    #[error("node {node} has {given} of memory; a {kind} needs at least {minimum}")]
    MemoryTooSmall {
        /// The node.
        node: NodeName,
        /// Its kind.
        kind: Kind,
        /// What it was given.
        given: Size,
        /// What it needs.
        minimum: Size,
    },
    /// A disk on which the partitions do not fit.
    #[error(
        "node {node} has a disk of {given}; it needs at least {minimum} (it is sparse: only what is written costs space)"
    )]
    DiskTooSmall {
        /// The node.
        node: NodeName,
        /// What it was given.
        given: Size,
        /// What it needs.
        minimum: Size,
    },
    /// A number of virtual CPUs that makes no sense.
    #[error("node {node} has {given} vcpus; give it 1 to {MOST_VCPUS}")]
    Vcpus {
        /// The node.
        node: NodeName,
        /// What it was given.
        given: u32,
    },
    /// A network written with host bits.
    #[error("the {name} network {given} is an address inside a network; write {meant}")]
    HostBits {
        /// Which network.
        name: &'static str,
        /// What was written.
        given: Ipv4Net,
        /// The network it is in.
        meant: Ipv4Net,
    },
    /// Two of the networks share addresses.
    #[error(
        "the {first} network {first_net} and the {second} network {second_net} overlap; choose disjoint ones"
    )]
    Overlap {
        /// One network.
        first: &'static str,
        /// Its range.
        first_net: Ipv4Net,
        /// The other.
        second: &'static str,
        /// Its range.
        second_net: Ipv4Net,
    },
    /// A network shares addresses with the tailnet.
    #[error(
        "the {name} network {given} overlaps {TAILNET}, where tailnet addresses come from; choose another"
    )]
    OverlapsTailnet {
        /// Which network.
        name: &'static str,
        /// Its range.
        given: Ipv4Net,
    },
    /// More nodes than addresses.
    #[error(
        "{nodes} nodes do not fit: the lan network {lan} and the pod network {pods} (a /24 for each node) have room for {room}"
    )]
    TooManyNodes {
        /// Nodes asked for.
        nodes: usize,
        /// Nodes that fit.
        room: usize,
        /// The LAN.
        lan: Ipv4Net,
        /// The pod network.
        pods: Ipv4Net,
    },
    /// Too small a service network.
    #[error("the services network {given} is too small; use a /24 or larger")]
    ServicesTooSmall {
        /// Its range.
        given: Ipv4Net,
    },
    /// Not the number of gateways that there must be.
    #[error("the cluster has {} ({}); it must have {expected}: change the roles, or say `gateways: {}`", count_of(found.len()), names(found), found.len())]
    Gateways {
        /// How many there must be.
        expected: usize,
        /// The nodes of the role `gateway`.
        found: Vec<NodeName>,
    },
    /// Not a DNS domain.
    #[error(
        "\"{0}\" is not a DNS domain; use labels of a-z, 0-9 and '-' with dots between, e.g. cluster.local"
    )]
    DnsDomain(String),
    /// A role without an image.
    #[error("there is no image for the role {0}; add it under images")]
    NoImage(Role),
}

/// What about the cluster an error is about; a scenario file turns it into a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecSubject {
    /// The node list as a whole.
    Nodes,
    /// One node (for a duplicate, the later one).
    Node(NodeName),
    /// A network, by its key.
    Network(&'static str),
    /// Two networks, by their keys.
    Networks(&'static str, &'static str),
    /// The DNS domain.
    DnsDomain,
    /// The number of gateways.
    Gateways,
}

/// A cluster that can exist but may not be what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecWarning {
    /// Nowhere for pods to run.
    #[error("no pod can run: there is no worker and allowSchedulingOnControlPlanes is false")]
    NoSchedulableNode,
}

impl SpecError {
    /// What it is about.
    pub fn subject(&self) -> SpecSubject {
        match self {
            SpecError::NoControlPlane | SpecError::ControlPlanes(_) | SpecError::NoImage(_) => {
                SpecSubject::Nodes
            }
            SpecError::DuplicateNode(node)
            | SpecError::MemoryTooSmall { node, .. }
            | SpecError::DiskTooSmall { node, .. }
            | SpecError::Vcpus { node, .. } => SpecSubject::Node(node.clone()),
            SpecError::HostBits { name, .. } | SpecError::OverlapsTailnet { name, .. } => {
                SpecSubject::Network(name)
            }
            SpecError::Overlap { first, second, .. } => SpecSubject::Networks(first, second),
            SpecError::TooManyNodes { .. } => SpecSubject::Networks("pods", "lan"),
            SpecError::ServicesTooSmall { .. } => SpecSubject::Network("services"),
            SpecError::Gateways { .. } => SpecSubject::Gateways,
            SpecError::DnsDomain(_) => SpecSubject::DnsDomain,
        }
    }
}

fn count_of(gateways: usize) -> String {
    match gateways {
        0 => "no gateway".to_owned(),
        1 => "1 gateway".to_owned(),
        n => format!("{n} gateways"),
    }
}

fn names(nodes: &[NodeName]) -> String {
    if nodes.is_empty() {
        return "no node has the role gateway".to_owned();
    }
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

impl ClusterSpec {
    /// Whether such a cluster can exist.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing.
    pub fn validate(&self) -> Result<Vec<SpecWarning>, Vec<SpecError>> {
        let mut errors = Vec::new();
        self.check_nodes(&mut errors);
        self.check_networks(&mut errors);
        let gateways = self.nodes.iter().filter(|node| node.role.is_gateway());
        let found: Vec<NodeName> = gateways.map(|node| node.name.clone()).collect();
        if found.len() != self.gateways {
            errors.push(SpecError::Gateways { expected: self.gateways, found });
        }
        if errors.is_empty() { Ok(self.warnings()) } else { Err(errors) }
    }

    fn check_nodes(&self, errors: &mut Vec<SpecError>) {
        match self.nodes_of(Kind::ControlPlane).count() {
            0 => errors.push(SpecError::NoControlPlane),
            1 => {}
            count => errors.push(SpecError::ControlPlanes(count)),
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if self.nodes.iter().take(index).any(|earlier| earlier.name == node.name) {
                errors.push(SpecError::DuplicateNode(node.name.clone()));
            }
            let minimum = NodeSpec::minimum_memory(node.kind);
            if node.memory < minimum {
                let (node, kind, given) = (node.name.clone(), node.kind, node.memory);
                errors.push(SpecError::MemoryTooSmall { node, kind, given, minimum });
            }
            if node.disk < NodeSpec::MINIMUM_DISK {
                let (minimum, given) = (NodeSpec::MINIMUM_DISK, node.disk);
                errors.push(SpecError::DiskTooSmall { node: node.name.clone(), given, minimum });
            }
            if !(1..=MOST_VCPUS).contains(&node.vcpus) {
                errors.push(SpecError::Vcpus { node: node.name.clone(), given: node.vcpus });
            }
            if !self.images.contains_key(&node.role) {
                errors.push(SpecError::NoImage(node.role.clone()));
            }
        }
        let (nodes, room) = (self.nodes.len(), self.network.node_capacity());
        if nodes > room {
            let (lan, pods) = (self.network.lan, self.network.pods);
            errors.push(SpecError::TooManyNodes { nodes, room, lan, pods });
        }
    }

    fn check_networks(&self, errors: &mut Vec<SpecError>) {
        let networks = self.network.named();
        for (index, (name, given)) in networks.into_iter().enumerate() {
            if given.trunc() != given {
                errors.push(SpecError::HostBits { name, given, meant: given.trunc() });
            }
            if overlap(given, TAILNET) {
                errors.push(SpecError::OverlapsTailnet { name, given });
            }
            for (first, first_net) in networks.into_iter().take(index) {
                if overlap(first_net, given) {
                    errors.push(SpecError::Overlap { first, first_net, second: name, second_net: given });
                }
            }
        }
        if self.network.services.prefix_len() > 24 {
            errors.push(SpecError::ServicesTooSmall { given: self.network.services });
        }
        let domain = &self.network.dns_domain;
        if domain.len() > 253 || !domain.split('.').all(|label| NodeName::new(label).is_ok()) {
            errors.push(SpecError::DnsDomain(domain.clone()));
        }
    }

    fn warnings(&self) -> Vec<SpecWarning> {
        let workers = self.nodes_of(Kind::Worker).count();
        if workers == 0 && !self.allow_scheduling_on_control_planes {
            return vec![SpecWarning::NoSchedulableNode];
        }
        Vec::new()
    }
}

/// Networks are either disjoint or one holds the other.
fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn spec(control_planes: usize, workers: usize) -> ClusterSpec {
        let name = NodeName::new("test").expect("name");
        ClusterSpec::of_compute_nodes(name, control_planes, workers).expect("spec")
    }

    #[test]
    fn the_defaults_are_a_possible_cluster() {
        assert_eq!(spec(1, 2).validate(), Ok(Vec::new()));
        assert_eq!(spec(1, 2).total_memory(), Size::gib(6));
        assert_eq!(spec(1, 2).network.node_address(0), Some(Ipv4Addr::new(10, 5, 0, 10)));
    }

    #[test]
    fn a_cluster_where_no_pod_can_run_is_worth_a_warning() {
        let mut lonely = spec(1, 0);
        assert_eq!(lonely.validate(), Ok(Vec::new()));
        lonely.allow_scheduling_on_control_planes = false;
        assert_eq!(lonely.validate(), Ok(vec![SpecWarning::NoSchedulableNode]));
    }

    #[test]
    fn more_than_one_control_plane_is_refused() {
        assert_eq!(spec(3, 0).validate(), Err(vec![SpecError::ControlPlanes(3)]));
    }

    #[test]
    fn the_room_for_nodes_ends_before_the_broadcast_address() {
        let mut network = spec(1, 0).network;
        network.lan = "10.5.0.0/28".parse().expect("net");
        assert_eq!(network.node_capacity(), 5);
        assert_eq!(network.node_address(4), Some(Ipv4Addr::new(10, 5, 0, 14)));
        assert_eq!(network.node_address(5), None);
        network.lan = "10.5.0.0/30".parse().expect("net");
        assert_eq!(network.node_capacity(), 0);
        network.lan = "0.0.0.0/0".parse().expect("net");
        assert_eq!(network.node_capacity(), 256);
        assert_eq!(network.node_address(usize::MAX), None);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let mut spec = spec(0, 2);
        spec.nodes[1].name = spec.nodes[0].name.clone();
        spec.nodes[0].memory = Size::mib(512);
        spec.nodes[0].disk = Size::gib(1);
        spec.nodes[1].vcpus = 0;
        spec.nodes[1].role = Role::new("storage").expect("role");
        spec.gateways = 1;
        spec.network.pods = "10.96.3.0/12".parse().expect("net");
        spec.network.lan = "100.100.0.0/29".parse().expect("net");
        spec.network.dns_domain = "Cluster..local".into();
        let errors = spec.validate().expect_err("impossible");
        insta::assert_snapshot!(errors.iter().map(|e| format!("{e}\n")).collect::<String>());
    }
}
