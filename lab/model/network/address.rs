//! Address calculations for a LAN plan.

use std::{collections::HashSet, net::Ipv4Addr};

use super::{LanPlan, MacAddr};

/// Returns the Ethernet address of the gateway. slirp uses `52:55` followed by the four bytes of its IPv4
/// address (libslirp `src/slirp.h`, `special_ethaddr`).
pub fn gateway_mac(gateway: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = gateway.octets();
    MacAddr::new([0x52, 0x55, a, b, c, d])
}

/// Returns the two highest unassigned addresses of the network. slirp requires addresses for its own DHCP
/// and DNS, and answers ARP for the DNS address, so nodes must not use them.
pub fn spare_addresses(plan: &LanPlan) -> Option<[Ipv4Addr; 2]> {
    let taken: HashSet<Ipv4Addr> =
        plan.attachments.iter().map(|attachment| attachment.address).chain([plan.gateway]).collect();
    let first = u32::from(plan.network.network()) + 1;
    let last = u32::from(plan.network.broadcast()).checked_sub(1)?;
    let mut spare = (first..=last).rev().map(Ipv4Addr::from).filter(|address| !taken.contains(address));
    Some([spare.next()?, spare.next()?])
}
