//! The user's own machine configs, which replace generated ones. The module reads their values and checks
//! whether the lab can form the cluster without changes to protected settings.
//!
//! ```text
//! OwnFile (text) + patches -> PatchedConfig (values) -> OwnCluster (networks, addresses) or Diagnostics
//! ```
//!
//! The configs determine the addresses. The lab LAN uses the network of their static addresses and their
//! endpoint, so both stay unchanged. The remaining changes are lab patches
//! ([`crate::talos::LabPatches::of_own`]), which keep the text around them
//! ([`crate::talos::MachineConfig::as_written`]).

mod addresses;
mod file;
mod judge;
mod patched;
#[cfg(test)]
mod tests;

pub use file::OwnFile;
pub use judge::{OwnCluster, RequestedCluster, RequestedNode, judge};
