//! The OCI registry that serves workload images to the nodes.
//!
//! It implements the pull side of the OCI distribution specification v1.1 over plain HTTP on the host
//! loopback. Nodes reach it at the gateway address of the LAN. Content comes from OCI image layout
//! directories, so node images contain no workload images. One server handles all upstream names:
//! containerd specifies the upstream with `?ns=`. The digest alone identifies content, in any repository,
//! and the registry verifies the digest before it serves the content. With a pull-through mirror, the
//! registry fetches missing content from the upstream and stores it. A disk can provide the same content to
//! the nodes.

mod cache_disk;
mod complaints;
mod content;
mod manifest;
mod proof;
mod refusal;
mod request;
mod served;
mod server;
mod store;
mod upstreams;

pub use cache_disk::{CacheDiskError, cache_disk};
pub use server::{Registry, RegistryError, RegistryOptions};
pub use store::{Store, StoreError};

/// The readers of requests and manifests. They are public for the fuzz targets alone, which are a crate of
/// their own.
#[doc(hidden)]
pub mod fuzzed {
    pub use super::{
        content::Part,
        manifest::ServedManifest,
        request::{Target, Wanted},
    };
}
