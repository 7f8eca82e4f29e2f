//! `lab` boots clusters of Talos-layout ARM64 images in QEMU, forms real Kubernetes clusters from them, and
//! reports whether they form, with the cause of a failure.
//!
//! Data flows in one direction. A scenario file becomes a `ClusterSpec`. The spec becomes a `Plan` (assets,
//! addresses, secrets and configs resolved). The plan becomes a live `Cluster`, which produces observations,
//! a verdict and a report. Everything up to the plan is plain data that can be printed, compared and tested
//! without a VM. Side effects start at `Cluster`.
//!
//! The large entry points return boxed futures. Their code is compiled once, in this crate, and not again in
//! the command and in every test that polls them.

pub mod experiment;
pub mod places;
pub mod scenario;
pub mod session;
pub mod starter;
pub mod vet;
