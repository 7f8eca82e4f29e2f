//! Which addresses of the LAN are whose: arithmetic over a plan.

use std::{collections::HashSet, net::Ipv4Addr};

use super::{LanPlan, MacAddr};

/// The gateway's Ethernet address: slirp's is `52:55` and the four bytes of its IPv4 address
/// (libslirp `src/slirp.h`, `special_ethaddr`).
pub fn gateway_mac(gateway: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = gateway.octets();
    MacAddr::new([0x52, 0x55, a, b, c, d])
}

/// The highest two addresses of the network that nobody uses. slirp insists on addresses for its
/// own DHCP and DNS, and would answer ARP for the latter, so they must not be a node's.
pub fn spare_addresses(plan: &LanPlan) -> Option<[Ipv4Addr; 2]> {
    let taken: HashSet<Ipv4Addr> =
        plan.attachments.iter().map(|attachment| attachment.address).chain([plan.gateway]).collect();
    let first = u32::from(plan.network.network()) + 1;
    let last = u32::from(plan.network.broadcast()).checked_sub(1)?;
    let mut spare = (first..=last).rev().map(Ipv4Addr::from).filter(|address| !taken.contains(address));
    Some([spare.next()?, spare.next()?])
}
