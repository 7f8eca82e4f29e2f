//! The user's own machine configs, used in place of generated ones: what they say, and whether the lab can
//! form their cluster without changing what it may not change.
//!
//! ```text
//! OwnFile (text) + patches -> PatchedConfig (what it says) -> OwnCluster (networks, addresses) or Diagnostics
//! ```
//!
//! The addresses are theirs: the lab LAN takes the network in which their static addresses and their endpoint
//! lie, so that both stay as they are. What must change all the same are patches of the lab
//! ([`crate::talos::LabPatches::of_own`]), and the text around them stays
//! ([`crate::talos::MachineConfig::as_written`]).

mod addresses;
mod file;
mod judge;
mod patched;
#[cfg(test)]
mod tests;

pub use file::OwnFile;
pub use judge::{OwnCluster, RequestedCluster, RequestedNode, judge};
