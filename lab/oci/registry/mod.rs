//! The OCI registry that serves workload images to the nodes.
//!
//! The pull side of the OCI distribution specification v1.1 over plain HTTP on the host's
//! loopback; nodes reach it at the LAN's gateway address. Content comes from OCI image layout
//! directories, so nothing is baked into the nodes. One server answers for every upstream name:
//! containerd says which it means with `?ns=`. Content is addressed by its digest alone, under
//! whatever repository, and is served only as what that digest says. With a pull-through mirror, what
//! is missing is fetched from the upstream and kept. The same content
//! can be handed to the nodes as a disk.

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
