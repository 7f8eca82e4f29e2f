//! The lab LAN: a user-space switch with DHCP, DNS and NTP, and the uplink to the host.
//!
//! Every node's network card is a QEMU `stream` back end that connects to one port of the switch. The
//! switch and QEMU's user-mode NAT share the gateway address. The switch answers DHCP, DNS and NTP,
//! so that leases are fixed and clocks are correct. The NAT forwards host ports to nodes and lets
//! nodes reach those ports of the host's loopback that the run serves (`gateway`). The LAN uses no tap, bridge, firewall rule or privilege, and two
//! labs on one host share nothing.
//!
//! The switch also cuts, slows, impairs and captures links, and partitions the LAN ([`LinkFault`],
//! [`Partition`]). For a link without faults, this costs one atomic load per frame.

mod capture;
mod counters;
mod delays;
mod dhcp;
mod disturbing;
mod dns;
mod egress;
mod error;
mod faults;
mod gateway;
mod handshake;
mod lan;
mod ntp;
mod packet;
mod pcapng;
mod port;
mod redirect;
mod services;
mod shaper;
mod switch;
mod uplink;

pub use capture::{CAPTURE_LIMIT, CaptureState};
pub use counters::{LanCounters, PortCounters, Refused, ServiceCounters};
pub use egress::Egress;
pub use error::NetworkError;
pub use faults::LanFaults;
pub use gateway::{HostPort, InvalidHostPort};
pub use lan::Lan;

/// The readers of frames. They are public for the fuzz targets alone, which are a crate of their own.
#[doc(hidden)]
pub mod fuzzed {
    pub use super::{
        dhcp::{Answer, DhcpServer, PORT as DHCP_PORT},
        dns::DnsServer,
        egress::{Passage, passage},
        gateway::Gateway,
        handshake::Handshakes,
        packet::{
            Carries, Datagram, Endpoint, arp_answer, carries, ethernet, is_udp, prohibited_frame,
            tcp_ports_and_flags,
        },
        port::{PREFIX, Port},
        services::{Service, Services},
    };
}
