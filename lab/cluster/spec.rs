//! What is asked for: a cluster as plain data, checked before anything is started.

use std::{collections::BTreeMap, path::PathBuf};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::node::{Kind, NodeName, Role};

/// Least memory of a control plane node, MiB (Talos system requirements).
pub const CONTROL_PLANE_MEMORY_MIB: u32 = 2048;
/// Least memory of a worker, MiB (Talos system requirements).
pub const WORKER_MEMORY_MIB: u32 = 1024;
/// The carrier-grade NAT block that Tailscale uses and drops on other interfaces (RFC 6598).
pub const TAILSCALE_BLOCK: &str = "100.64.0.0/10";

/// A cluster as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Cluster name, also of its kubeconfig and talosconfig contexts.
    pub name: NodeName,
    /// Where each role's image comes from.
    pub images: BTreeMap<Role, PathBuf>,
    /// The nodes, in the order they are shown.
    pub nodes: Vec<NodeSpec>,
    /// Address ranges and names.
    pub networks: Networks,
    /// How many nodes of role gateway there must be.
    pub gateways: usize,
    /// Whether ordinary pods may run on control planes.
    pub schedule_on_control_planes: bool,
    /// Strategic-merge patches for every node's machine config, as YAML.
    pub patches: Vec<String>,
    /// The same for one kind of node.
    pub kind_patches: BTreeMap<Kind, Vec<String>>,
    /// The same for one role.
    pub role_patches: BTreeMap<Role, Vec<String>>,
}

/// One node as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its name.
    pub name: NodeName,
    /// What Kubernetes runs on it.
    pub kind: Kind,
    /// Which image it boots.
    pub role: Role,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Disk size in MiB; the file is sparse.
    pub disk_mib: u32,
    /// Strategic-merge patches for this node's machine config, as YAML; applied last.
    pub patches: Vec<String>,
}

/// Address ranges and names of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// The LAN between the nodes; the first address is the gateway to the host.
    pub lan: Ipv4Net,
    /// Pod addresses.
    pub pods: Ipv4Net,
    /// Service addresses.
    pub services: Ipv4Net,
    /// Cluster DNS domain.
    pub dns_domain: String,
    /// Largest packet on the LAN, bytes.
    pub mtu: u16,
}

/// Why a spec describes no possible cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Nothing to run the API server on.
    #[error("the cluster has no control plane node; give one node kind: controlplane")]
    NoControlPlane,
    /// etcd would have to grow, which the lab does not do.
    #[error("{count} control plane nodes are asked for; the lab forms clusters with exactly one")]
    ControlPlanes {
        /// How many.
        count: usize,
    },
    /// Two nodes of one name.
    #[error("two nodes are called {0}; names must differ")]
    DuplicateName(NodeName),
    /// A role without an image.
    #[error("node {node} has role {role}, but images has no entry for it; images are given for: {known}")]
    NoImage {
        /// Which node.
        node: NodeName,
        /// Its role.
        role: Role,
        /// The roles that have images.
        known: String,
    },
    /// Too little memory to boot.
    #[error("node {node} has {given} MiB of memory; a {kind} needs at least {least} MiB")]
    Memory {
        /// Which node.
        node: NodeName,
        /// Its kind.
        kind: Kind,
        /// What was given.
        given: u32,
        /// What is needed.
        least: u32,
    },
    /// No CPU at all.
    #[error("node {0} has no vcpus; give at least 1")]
    Cpus(NodeName),
    /// Too small a disk for images and etcd.
    #[error("node {node} has a disk of {given} MiB; at least 2048 MiB are needed")]
    Disk {
        /// Which node.
        node: NodeName,
        /// What was given.
        given: u32,
    },
    /// Wrong number of subnet routers.
    #[error(
        "{found} nodes have role gateway and {wanted} is wanted: a cluster has one Tailscale subnet router; \
         set gateways: {found} if this is on purpose"
    )]
    Gateways {
        /// How many there are.
        found: usize,
        /// How many there must be.
        wanted: usize,
    },
    /// Two ranges that share addresses.
    #[error("networks {first} and {second} overlap; packets could not be told apart")]
    Overlap {
        /// One range, with its name.
        first: String,
        /// The other.
        second: String,
    },
    /// More nodes than addresses.
    #[error("the LAN {lan} has no room for {nodes} nodes, a gateway and its services")]
    LanTooSmall {
        /// The range.
        lan: Ipv4Net,
        /// How many nodes.
        nodes: usize,
    },
}

impl ClusterSpec {
    /// Checks everything that can be known without a host.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), SpecError> {
        match self.nodes.iter().filter(|node| node.kind == Kind::ControlPlane).count() {
            0 => return Err(SpecError::NoControlPlane),
            1 => {}
            count => return Err(SpecError::ControlPlanes { count }),
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if self.nodes[..index].iter().any(|earlier| earlier.name == node.name) {
                return Err(SpecError::DuplicateName(node.name.clone()));
            }
            self.validate_node(node)?;
        }
        let found = self.nodes.iter().filter(|node| node.role.as_str() == Role::GATEWAY).count();
        if found != self.gateways {
            return Err(SpecError::Gateways { found, wanted: self.gateways });
        }
        self.networks.validate(self.nodes.len())
    }

    fn validate_node(&self, node: &NodeSpec) -> Result<(), SpecError> {
        if !self.images.contains_key(&node.role) {
            let known: Vec<_> = self.images.keys().map(Role::as_str).collect();
            return Err(SpecError::NoImage {
                node: node.name.clone(),
                role: node.role.clone(),
                known: if known.is_empty() { "none".into() } else { known.join(", ") },
            });
        }
        let least = match node.kind {
            Kind::ControlPlane => CONTROL_PLANE_MEMORY_MIB,
            Kind::Worker => WORKER_MEMORY_MIB,
        };
        if node.memory_mib < least {
            let (name, kind, given) = (node.name.clone(), node.kind, node.memory_mib);
            return Err(SpecError::Memory { node: name, kind, given, least });
        }
        if node.vcpus == 0 {
            return Err(SpecError::Cpus(node.name.clone()));
        }
        if node.disk_mib < 2048 {
            return Err(SpecError::Disk { node: node.name.clone(), given: node.disk_mib });
        }
        Ok(())
    }

    /// RAM of all nodes together, MiB.
    pub fn memory_mib(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.memory_mib)).sum()
    }
}

impl Networks {
    fn validate(&self, nodes: usize) -> Result<(), SpecError> {
        // Host addresses without network, gateway and broadcast.
        let room = (1u64 << (32 - self.lan.prefix_len())).saturating_sub(3);
        if (nodes as u64) > room {
            return Err(SpecError::LanTooSmall { lan: self.lan, nodes });
        }
        let tailscale = TAILSCALE_BLOCK.parse().ok();
        let named = [
            ("lan", Some(self.lan)),
            ("pods", Some(self.pods)),
            ("services", Some(self.services)),
            ("Tailscale", tailscale),
        ];
        for (index, (name, range)) in named.iter().enumerate() {
            for (other_name, other) in &named[..index] {
                if let (Some(range), Some(other)) = (range, other)
                    && (range.contains(other) || other.contains(range))
                {
                    return Err(SpecError::Overlap {
                        first: format!("{other_name} {other}"),
                        second: format!("{name} {range}"),
                    });
                }
            }
        }
        Ok(())
    }
}

impl Default for Networks {
    /// The ranges of the Talos defaults, and design's LAN.
    fn default() -> Self {
        let range = |octets: [u8; 4], length| Ipv4Net::new_assert(octets.into(), length);
        Self {
            lan: range([10, 5, 0, 0], 24),
            pods: range([10, 244, 0, 0], 16),
            services: range([10, 96, 0, 0], 12),
            dns_domain: "cluster.local".into(),
            mtu: 1500,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, kind: Kind, role: &str) -> NodeSpec {
        NodeSpec {
            name: NodeName::new(name).expect("name"),
            kind,
            role: Role::new(role).expect("role"),
            vcpus: 1,
            memory_mib: 2048,
            disk_mib: 6144,
            patches: Vec::new(),
        }
    }

    fn spec(nodes: Vec<NodeSpec>) -> ClusterSpec {
        let images = [Role::COMPUTE, Role::GATEWAY]
            .map(|role| (Role::new(role).expect("role"), PathBuf::from("target/images").join(role)));
        ClusterSpec {
            name: NodeName::new("lab").expect("name"),
            images: images.into(),
            nodes,
            networks: Networks::default(),
            gateways: 0,
            schedule_on_control_planes: false,
            patches: Vec::new(),
            kind_patches: BTreeMap::new(),
            role_patches: BTreeMap::new(),
        }
    }

    fn three() -> ClusterSpec {
        spec(vec![
            node("cp-1", Kind::ControlPlane, "compute"),
            node("worker-1", Kind::Worker, "compute"),
            node("worker-2", Kind::Worker, "compute"),
        ])
    }

    #[test]
    fn the_ordinary_cluster_is_possible() {
        assert_eq!(three().validate(), Ok(()));
    }

    #[test]
    fn each_rule_refuses_its_own_mistake() {
        let broken = |change: fn(&mut ClusterSpec)| {
            let mut spec = three();
            change(&mut spec);
            spec.validate().expect_err("must be refused").to_string()
        };
        let messages = [
            broken(|spec| spec.nodes[0].kind = Kind::Worker),
            broken(|spec| spec.nodes[1].kind = Kind::ControlPlane),
            broken(|spec| spec.nodes[2].name = spec.nodes[1].name.clone()),
            broken(|spec| spec.nodes[1].role = Role::new("mars").expect("role")),
            broken(|spec| spec.nodes[0].memory_mib = 1024),
            broken(|spec| spec.nodes[1].vcpus = 0),
            broken(|spec| spec.nodes[1].disk_mib = 100),
            broken(|spec| spec.nodes[1].role = Role::new("gateway").expect("role")),
            broken(|spec| spec.networks.services = "10.244.128.0/20".parse().expect("range")),
            broken(|spec| spec.networks.pods = "100.100.0.0/16".parse().expect("range")),
            broken(|spec| spec.networks.lan = "10.5.0.0/30".parse().expect("range")),
        ];
        insta::assert_snapshot!(messages.join("\n"));
    }
}
