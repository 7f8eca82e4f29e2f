//! Egress rules for frames from the nodes to the uplink.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use lab_model::node::NodeName;
use serde::{Deserialize, Serialize};

use super::{
    Refused,
    packet::{Carries, carries, ethernet},
};

/// Whether nodes may reach beyond the lab's LAN and the host's loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// No egress: a lab must not depend on the current state of the internet.
    #[default]
    Refuse,
    /// Egress through the host's own network.
    Allow,
}

/// The decision on a frame to the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// The frame is forwarded.
    Granted,
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
        Carries::Ipv4(destination) if destination == gateway => Passage::Granted,
        Carries::Ipv4(_) if group => Passage::Pointless,
        Carries::Ipv4(_) if egress == Egress::Allow => Passage::Granted,
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
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

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
        assert_eq!(passage(&to(unicast, GATEWAY), GATEWAY, Egress::Refuse), Passage::Granted);
        assert_eq!(passage(&to(unicast, OUTSIDE), GATEWAY, Egress::Refuse), Passage::Refused(OUTSIDE));
        assert_eq!(passage(&to(unicast, OUTSIDE), GATEWAY, Egress::Allow), Passage::Granted);
    }

    #[test]
    fn group_traffic_and_other_protocols_are_dropped_without_a_word() {
        let multicast = to(MacAddr::new([1, 0, 0x5e, 0, 0, 0xfb]), Ipv4Addr::new(224, 0, 0, 251));
        assert_eq!(passage(&multicast, GATEWAY, Egress::Refuse), Passage::Pointless);
        let mut ipv6 = to(MacAddr::new([2, 0, 0, 0, 0, 1]), GATEWAY);
        ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(passage(&ipv6, GATEWAY, Egress::Allow), Passage::Pointless);
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
