//! One QEMU process, the lab LAN between several, and the host that carries them.
//!
//! [`machine`] starts, watches, saves and ends one VM. [`network`] is the user-space switch with its
//! services, link faults and the uplink. [`host`] answers what the host can carry, reserves memory and
//! cleans up after killed runs. [`process`] starts children that cannot outlive the lab.
//!
//! This crate uses `lab-model` only. It knows nothing of Talos, Kubernetes or scenarios.
//!
//! Start reading at [`machine::Machine`].

pub mod host;
pub mod machine;
pub mod network;
pub mod process;
