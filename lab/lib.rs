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

pub mod experiment;
pub mod scenario;
pub mod session;
