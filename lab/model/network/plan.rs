//! The LAN plan as plain data: node attachments and addresses.

use std::{collections::HashSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{MacAddr, address};
use crate::node::NodeName;

/// The LAN of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanPlan {
    /// The network, e.g. 10.5.0.0/24.
    pub network: Ipv4Net,
    /// Address of the router, DNS server and NTP server. Nodes reach the host loopback at this address.
    pub gateway: Ipv4Addr,
    /// DNS domain of the nodes, without leading or trailing dots.
    pub domain: String,
    /// MTU of the nodes, in bytes. slirp uses a fixed MTU of 1500 towards the host; TCP negotiates the
    /// smaller value.
    pub mtu: u16,
    /// Networks inside the cluster: pods and services. Packets to them leave a node only while it lacks the
    /// rules that translate or route them.
    #[serde(default)]
    pub inner: Vec<Ipv4Net>,
    pub attachments: Vec<Attachment>,
}

/// The plan is inconsistent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lab network {network} cannot be laid out: {reason}")]
pub struct LanPlanError {
    pub network: Ipv4Net,
    pub reason: String,
}

/// The attachment of one node to the LAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The node name, also used in DNS.
    pub node: NodeName,
    /// The address of the network card. It selects the DHCP lease.
    pub mac: MacAddr,
    /// The fixed IPv4 address.
    pub address: Ipv4Addr,
    /// The TCP ports to forward from the host loopback.
    pub forwards: Vec<u16>,
}

impl LanPlan {
    /// Checks that all addresses are inside the network and distinct, and that two spare addresses remain.
    ///
    /// # Errors
    /// Returns the first problem.
    pub fn check(&self) -> Result<(), LanPlanError> {
        let wrong = |reason: String| Err(LanPlanError { network: self.network, reason });
        let mut addresses = HashSet::from([self.network.network(), self.network.broadcast()]);
        if !self.network.contains(&self.gateway) || !addresses.insert(self.gateway) {
            return wrong(format!("the gateway {} is not a host address of this network", self.gateway));
        }
        let mut macs = HashSet::from([address::gateway_mac(self.gateway)]);
        let mut names = HashSet::from(["gateway", "uplink"]);
        for Attachment { node, mac, address, .. } in &self.attachments {
            if !self.network.contains(address) {
                return wrong(format!("{node}'s address {address} is outside this network"));
            }
            if !addresses.insert(*address) {
                return wrong(format!("{node}'s address {address} is taken"));
            }
            if mac.is_group() || !macs.insert(*mac) {
                return wrong(format!("{node}'s Ethernet address {mac} is taken or a group's"));
            }
            if !names.insert(node.as_str()) {
                return wrong(format!("the name {node} is taken"));
            }
        }
        match address::spare_addresses(self) {
            Some(_) => Ok(()),
            None => {
                wrong("the network needs two unused addresses and has fewer; use a larger network".to_owned())
            }
        }
    }

    /// Creates a small LAN for tests.
    #[doc(hidden)]
    pub fn for_tests(nodes: u8) -> Self {
        Self {
            network: "10.5.0.0/24".parse().expect("a network"),
            gateway: Ipv4Addr::new(10, 5, 0, 1),
            domain: "lab.internal".into(),
            mtu: 1500,
            inner: vec!["10.96.0.0/12".parse().expect("a network")],
            attachments: (0..nodes)
                .map(|n| Attachment {
                    node: format!("node-{}", n + 1).parse().expect("a node name"),
                    mac: MacAddr::new([0x52, 0x54, 0, 0, 0, n + 2]),
                    address: Ipv4Addr::new(10, 5, 0, n + 2),
                    forwards: Vec::new(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_plan_passes() {
        assert!(LanPlan::for_tests(3).check().is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_named() {
        let reason = |change: fn(&mut LanPlan)| {
            let mut plan = LanPlan::for_tests(2);
            change(&mut plan);
            plan.check().unwrap_err().to_string()
        };
        insta::assert_snapshot!(
            [
                reason(|plan| plan.gateway = Ipv4Addr::new(10, 6, 0, 1)),
                reason(|plan| plan.attachments[1].address = Ipv4Addr::new(10, 5, 0, 2)),
                reason(|plan| plan.attachments[1].address = Ipv4Addr::new(10, 5, 1, 2)),
                reason(|plan| plan.attachments[1].mac = plan.attachments[0].mac),
                reason(|plan| plan.attachments[1].node = plan.attachments[0].node.clone()),
                reason(|plan| plan.network = "10.5.0.0/30".parse().unwrap()),
            ]
            .join("\n")
        );
    }

    #[test]
    fn spare_addresses_belong_to_no_node() {
        assert_eq!(
            address::spare_addresses(&LanPlan::for_tests(2)),
            Some([Ipv4Addr::new(10, 5, 0, 254), Ipv4Addr::new(10, 5, 0, 253)])
        );
    }
}
