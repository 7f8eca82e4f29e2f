//! The networks and ports of a cluster, as plain data.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Port of the machine API (Talos, apid).
pub const MACHINE_API_PORT: u16 = 50000;
/// Port of the Kubernetes API server.
pub const KUBERNETES_API_PORT: u16 = 6443;

/// Port of the image registry on the LAN gateway, independent of the registry's host port. Users do not
/// use this port for their own mirrors.
pub const REGISTRY_PORT: u16 = 5999;

/// The lowest host number of a node on the lab LAN. The lab reserves lower numbers for switch services
/// and the uplink.
pub const FIRST_NODE_HOST: u32 = 10;

/// The shared address space (RFC 6598), which contains Tailscale's node addresses.
pub const TAILNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);

/// The networks of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Pod network. Every node gets a /24 subnet.
    pub pods: Ipv4Net,
    /// Network of ClusterIP services.
    pub services: Ipv4Net,
    /// The lab LAN of the nodes.
    pub lan: Ipv4Net,
    /// The cluster's DNS domain.
    pub dns_domain: String,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        let net = |a, b, c, d, length| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length);
        Self {
            pods: net(10, 244, 0, 0, 16),
            services: net(10, 96, 0, 0, 12),
            lan: net(10, 5, 0, 0, 24),
            dns_domain: "cluster.local".to_owned(),
        }
    }
}

impl NetworkSpec {
    /// Returns the three networks with their names in messages and their keys in scenario files.
    pub fn named(&self) -> [(&'static str, Ipv4Net); 3] {
        [("pods", self.pods), ("services", self.services), ("lan", self.lan)]
    }

    /// Returns the gateway to the host and its services: the first host address of the LAN.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.lan.network()).saturating_add(1))
    }

    /// Returns the lab LAN address of the node at `index` in the node list. Returns `None` if the LAN has
    /// no such address.
    pub fn node_address(&self, index: usize) -> Option<Ipv4Addr> {
        let host = FIRST_NODE_HOST.checked_add(u32::try_from(index).ok()?)?;
        let address = Ipv4Addr::from(u32::from(self.lan.network()).checked_add(host)?);
        (self.lan.contains(&address) && address < self.lan.broadcast()).then_some(address)
    }

    /// Returns the maximum number of nodes for the LAN and the pod network (a /24 per node).
    pub fn node_capacity(&self) -> usize {
        let lan = (1u64 << (32 - self.lan.prefix_len())).saturating_sub(u64::from(FIRST_NODE_HOST) + 1);
        let pods = if self.pods.prefix_len() > 24 { 0 } else { 1u64 << (24 - self.pods.prefix_len()) };
        usize::try_from(lan.min(pods)).unwrap_or(usize::MAX)
    }
}
