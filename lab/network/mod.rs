//! The lab LAN: a user-space switch with DHCP, DNS and NTP, and the uplink to the host.

mod mac;

pub use mac::{InvalidMac, MacAddr};
