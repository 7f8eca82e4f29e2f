//! The OCI registry that serves workload images to the nodes.
//!
//! The pull side of the OCI distribution specification v1.1 over plain HTTP on the host's
//! loopback; nodes reach it at the LAN's gateway address. Content comes from OCI image layout
//! directories, so nothing is baked into the nodes. One server answers for every upstream name:
//! containerd says which it means with `?ns=`. The same content can be handed to the nodes as a disk.

mod cache_disk;
mod server;
mod store;

pub use cache_disk::{CacheDiskError, cache_disk};
pub use server::{Registry, RegistryError};
pub use store::{Store, StoreError};
