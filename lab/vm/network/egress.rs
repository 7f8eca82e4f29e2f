//! Egress rules for frames from the nodes to the uplink.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use lab_model::{network::is_public, node::NodeName};
use serde::{Deserialize, Serialize};

use super::{
    Refused,
    packet::{Carries, carries, ethernet},
};

/// Whether nodes may reach beyond the lab's LAN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// No egress: a lab must not depend on the current state of the internet.
    #[default]
    Refuse,
    /// Egress to the public internet through the host's own network, and to one other address that the user named. This
    /// host, private networks and links stay closed.
    Allow {
        /// An address outside of the public internet.
        also: Option<Ipv4Addr>,
    },
}

impl Egress {
    fn allows(self, destination: Ipv4Addr) -> bool {
        match self {
            Self::Refuse => false,
            Self::Allow { also } => is_public(destination.into()) || also == Some(destination),
        }
    }
}

/// The decision on a frame to the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// The frame is forwarded.
    Granted,
    /// The frame goes to the gateway address, which decides.
    AtGateway,
    /// The frame is irrelevant for the uplink (multicast, IPv6) and is dropped silently.
    Pointless,
    /// The frame would leave the LAN.
    Refused(Ipv4Addr),
}

/// Decides from the frame alone.
pub fn passage(frame: &[u8], gateway: Ipv4Addr, egress: Egress) -> Passage {
    let group = ethernet(frame).is_none_or(|(destination, _)| destination.is_group());
    match carries(frame) {
        Carries::Arp => Passage::Granted,
        Carries::Ipv4(destination) if destination == gateway => Passage::AtGateway,
        Carries::Ipv4(_) if group => Passage::Pointless,
        Carries::Ipv4(destination) if egress.allows(destination) => Passage::Granted,
        Carries::Ipv4(destination) => Passage::Refused(destination),
        Carries::Other => Passage::Pointless,
    }
}

/// Counts the refused packets by node and destination. The size is bounded, so that a guest cannot
/// make it grow without limit.
#[derive(Default)]
pub(super) struct Attempts {
    seen: Mutex<HashMap<(NodeName, Ipv4Addr), u64>>,
}

/// The maximum number of distinct destinations; all others are counted under 0.0.0.0.
const DESTINATIONS: usize = 512;

impl Attempts {
    /// Counts one packet. Returns whether it is the first from `node` to `destination`.
    pub fn count(&self, node: &NodeName, destination: Ipv4Addr) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let full = seen.len() >= DESTINATIONS && !seen.contains_key(&(node.clone(), destination));
        let destination = if full { Ipv4Addr::UNSPECIFIED } else { destination };
        let packets = seen.entry((node.clone(), destination)).or_default();
        *packets += 1;
        *packets == 1
    }

    /// All counts, in a stable order.
    pub fn read(&self) -> Vec<Refused> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Refused> = seen
            .iter()
            .map(|((node, destination), packets)| Refused {
                node: node.clone(),
                destination: *destination,
                packets: *packets,
            })
            .collect();
        all.sort_by(|a, b| (&a.node, a.destination).cmp(&(&b.node, b.destination)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::packet::{Endpoint, udp_frame};
    use lab_model::network::MacAddr;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 5, 0, 1);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 7);

    fn to(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
        let from = Endpoint {
            mac: MacAddr::new([2, 0, 0, 0, 0, 2]),
            address: Ipv4Addr::new(10, 5, 0, 2),
            port: 1000,
        };
        udp_frame(from, Endpoint { mac, address, port: 443 }, b"x").unwrap()
    }

    #[test]
    fn only_the_gateway_itself_is_reachable_unless_allowed() {
        let unicast = MacAddr::new([2, 0, 0, 0, 0, 1]);
        assert_eq!(passage(&to(unicast, GATEWAY), GATEWAY, Egress::Refuse), Passage::AtGateway);
        assert_eq!(passage(&to(unicast, OUTSIDE), GATEWAY, Egress::Refuse), Passage::Refused(OUTSIDE));
        let allow = Egress::Allow { also: None };
        assert_eq!(passage(&to(unicast, OUTSIDE), GATEWAY, allow), Passage::Granted);
        assert_eq!(passage(&to(unicast, GATEWAY), GATEWAY, allow), Passage::AtGateway);
    }

    #[test]
    fn this_host_and_private_networks_stay_closed_with_a_real_tailnet() {
        let unicast = MacAddr::new([2, 0, 0, 0, 0, 1]);
        let own: Ipv4Addr = "192.168.1.9".parse().unwrap();
        for address in ["127.0.0.1", "10.5.0.77", "10.0.0.1", "172.16.1.1", "192.168.1.1", "169.254.169.254"]
        {
            let address = address.parse().unwrap();
            let passage = passage(&to(unicast, address), GATEWAY, Egress::Allow { also: Some(own) });
            assert_eq!(passage, Passage::Refused(address));
        }
        assert_eq!(passage(&to(unicast, own), GATEWAY, Egress::Allow { also: Some(own) }), Passage::Granted);
    }

    #[test]
    fn group_traffic_and_other_protocols_are_dropped_without_a_word() {
        let multicast = to(MacAddr::new([1, 0, 0x5e, 0, 0, 0xfb]), Ipv4Addr::new(224, 0, 0, 251));
        assert_eq!(passage(&multicast, GATEWAY, Egress::Refuse), Passage::Pointless);
        let mut ipv6 = to(MacAddr::new([2, 0, 0, 0, 0, 1]), GATEWAY);
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(passage(&ipv6, GATEWAY, Egress::Allow { also: None }), Passage::Pointless);
    }

    #[test]
    fn a_destination_is_new_once_a_node_and_the_memory_is_bounded() {
        let attempts = Attempts::default();
        let node: NodeName = "node-1".parse().unwrap();
        assert!(attempts.count(&node, OUTSIDE));
        assert!(!attempts.count(&node, OUTSIDE));
        for n in 0..2000_u32 {
            attempts.count(&node, Ipv4Addr::from(0x0a0a_0000 + n));
        }
        let read = attempts.read();
        assert!(read.len() <= DESTINATIONS + 1);
        assert_eq!(read.iter().map(|refused| refused.packets).sum::<u64>(), 2002);
    }
}
