//! The lab LAN: a user-space switch with DHCP, DNS and NTP, and the uplink to the host.
//!
//! Every node's network card is a QEMU `stream` back end connected to one port of the switch. The
//! gateway address is half the switch's own (DHCP, DNS and NTP are answered here, so that leases
//! are fixed and clocks right) and half QEMU's user-mode NAT, which forwards host ports to nodes
//! and lets nodes reach the host's loopback. No tap, bridge, firewall rule or privilege is used,
//! and two labs on one host share nothing.

mod address;
mod counters;
mod dhcp;
mod dns;
mod egress;
mod error;
mod handshake;
mod lan;
mod mac;
mod ntp;
mod packet;
mod plan;
mod port;
mod redirect;
mod services;
mod switch;
mod uplink;

pub use counters::{LanCounters, PortCounters, Refused, ServiceCounters};
pub use egress::Egress;
pub use error::NetworkError;
pub use lan::{Lan, LinkState};
pub use mac::{InvalidMac, MacAddr};
pub use plan::{Attachment, LanPlan};
