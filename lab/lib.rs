//! `lab` boots clusters of Talos-layout ARM64 images in QEMU, forms real Kubernetes clusters
//! from them and says, with a cause, whether they form.
//!
//! Data flows one way: a scenario file becomes a `ClusterSpec`, the spec becomes a `Plan`
//! (assets, addresses, secrets and configs resolved), the plan becomes a live `Cluster`, which
//! yields observations, a verdict and a report. Everything up to the plan is plain data that
//! prints, compares and tests without a VM; side effects start at `Cluster`.
//!
//! The large entry points return boxed futures: their code is then compiled once, here, and not
//! again in the command and in every test that polls them.

pub mod assets;
pub mod cluster;
pub mod control;
pub mod events;
pub mod host;
pub mod kubernetes;
pub mod lint;
pub mod machine;
pub mod merge;
pub mod network;
pub mod node;
pub mod oci;
pub mod own_configs;
pub mod preflight;
pub mod recipe;
pub mod registry;
pub mod report;
pub mod scenario;
pub mod session;
pub mod tailnet;
pub mod talos;
pub mod words;
pub mod yaml;
