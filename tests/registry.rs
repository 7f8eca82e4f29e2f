//! The registry against real clients: what the OCI distribution specification v1.1 wants of its pull
//! side, damaged content, upstreams that are there and not, and a containerd (on Linux, where
//! there is one).

#[path = "registry/conformance.rs"]
mod conformance;
#[cfg(target_os = "linux")]
#[path = "registry/containerd.rs"]
mod containerd;
#[path = "registry/fixture.rs"]
mod fixture;
#[path = "registry/integrity.rs"]
mod integrity;
#[path = "registry/ports.rs"]
mod ports;
#[path = "registry/pull_through.rs"]
mod pull_through;
