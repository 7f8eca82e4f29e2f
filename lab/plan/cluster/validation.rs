//! Validation of cluster specs.

use ipnet::Ipv4Net;
use lab_model::{
    Size,
    node::{Kind, NodeName, Role},
};

use super::spec::{ClusterSpec, NodeSpec};
use crate::network::TAILNET;

/// Maximum number of virtual CPUs, above that of any supported host. Larger numbers are typing errors.
const MOST_VCPUS: u32 = 64;

/// The reason that a cluster is impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The cluster has no control plane node for etcd and the API server.
    #[error("the cluster has no control plane; give one node the kind controlplane")]
    NoControlPlane,
    /// More control planes would require a growing etcd cluster, which the lab does not support.
    #[error(
        "the cluster has {0} control planes; the lab forms clusters with exactly one so far: make the others workers"
    )]
    ControlPlanes(usize),
    /// Two nodes have the same name.
    #[error("the node name {0} is used twice; names must be unique, they become Kubernetes node names")]
    DuplicateNode(NodeName),
    /// The memory is below the minimum of Talos.
    #[error("node {node} has {given} of memory; a {kind} needs at least {minimum}")]
    MemoryTooSmall {
        node: NodeName,
        kind: Kind,
        /// The specified memory.
        given: Size,
        /// The required memory.
        minimum: Size,
    },
    /// The disk is too small for the partitions.
    #[error(
        "node {node} has a disk of {given}; it needs at least {minimum} (it is sparse: only what is written costs space)"
    )]
    DiskTooSmall {
        node: NodeName,
        /// The specified size.
        given: Size,
        /// The required size.
        minimum: Size,
    },
    /// The number of virtual CPUs is out of range.
    #[error("node {node} has {given} vcpus; give it 1 to {MOST_VCPUS}")]
    Vcpus {
        node: NodeName,
        /// The specified number.
        given: u32,
    },
    /// A network has host bits set.
    #[error("the {name} network {given} is an address inside a network; write {meant}")]
    HostBits {
        name: &'static str,
        /// The specified network.
        given: Ipv4Net,
        /// The network without host bits.
        meant: Ipv4Net,
    },
    /// Two networks overlap.
    #[error(
        "the {first} network {first_net} and the {second} network {second_net} overlap; choose disjoint ones"
    )]
    Overlap {
        /// Name of the first network.
        first: &'static str,
        /// Range of the first network.
        first_net: Ipv4Net,
        /// Name of the second network.
        second: &'static str,
        /// Range of the second network.
        second_net: Ipv4Net,
    },
    /// A network overlaps with the tailnet.
    #[error("the {name} network {given} overlaps {TAILNET}, the range of tailnet addresses; choose another")]
    OverlapsTailnet {
        name: &'static str,
        /// The specified range.
        given: Ipv4Net,
    },
    /// The cluster has more nodes than addresses.
    #[error(
        "{nodes} nodes do not fit: the lan network {lan} and the pod network {pods} (a /24 for each node) have room for {room}"
    )]
    TooManyNodes {
        /// Number of nodes in the spec.
        nodes: usize,
        /// Maximum number of nodes.
        room: usize,
        lan: Ipv4Net,
        pods: Ipv4Net,
    },
    /// The service network is too small.
    #[error("the services network {given} is too small; use a /24 or larger")]
    ServicesTooSmall {
        /// The specified range.
        given: Ipv4Net,
    },
    /// The number of gateways is wrong.
    #[error("the cluster has {} ({}); it must have {expected}: change the roles, or say `gateways: {}`", count_of(found.len()), names(found), found.len())]
    Gateways {
        /// The required number.
        expected: usize,
        /// The nodes with the role `gateway`.
        found: Vec<NodeName>,
    },
    /// The DNS domain is invalid.
    #[error(
        "\"{0}\" is not a DNS domain; use labels of a-z, 0-9 and '-' with dots between, e.g. cluster.local"
    )]
    DnsDomain(String),
    /// A role has no image.
    #[error("there is no image for the role {0}; add it under images")]
    NoImage(Role),
}

/// The subject of an error. The scenario reader maps it to a position in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecSubject {
    /// The node list as a whole.
    Nodes,
    /// One node. For duplicates, the later node.
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

/// A warning for a cluster that is possible but probably unintended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecWarning {
    /// No node accepts pods.
    #[error("no pod can run: there is no worker and allowSchedulingOnControlPlanes is false")]
    NoSchedulableNode,
}

impl SpecError {
    /// Returns the subject of the error.
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
    /// Checks that the cluster is possible.
    ///
    /// # Errors
    /// Returns all errors, not only the first.
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

/// Checks for overlap. Two networks are either disjoint or one contains the other.
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
