//! A machine config as a user gives it: the file, its documents with positions, and what it says.
//!
//! [`UserConfig`] is the one reading of such a file. The rules of `lab config check` look at several of
//! them, the lab decides by one whether it can form the cluster of the user's own files, and patches edit
//! its lines. A file may also be a patch, which holds only a part.

mod config;
mod facts;
#[cfg(test)]
mod tests;

pub use config::UserConfig;
pub use facts::{ClusterNetwork, cluster_networks, endpoint_host, machine_kind};
