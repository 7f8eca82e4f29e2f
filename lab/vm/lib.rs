//! One QEMU process, the lab LAN between several, and the host that runs them.
//!
//! [`machine`] starts, watches, saves and ends one VM. [`network`] is the user-space switch with its
//! services, link faults and the uplink. [`host`] checks the capacity of the host, reserves memory
//! and cleans up after killed runs. [`process`] starts child processes that cannot outlive the lab.
//!
//! This crate depends only on `lab-model`, and has no code for Talos, Kubernetes or scenarios.
//!
//! Start reading at [`machine::Machine`].

pub mod host;
pub mod machine;
pub mod network;
pub mod process;
