//! A user's machine config: the file, its documents with positions, and its values.
//!
//! [`UserConfig`] is the single parser for such files. The rules of `lab config check` compare several
//! files, the lab checks whether it can form the cluster of the user's files, and patches edit their
//! lines. A file may also be a patch, which contains only a part of a config.

mod config;
mod facts;
#[cfg(test)]
mod tests;

pub use config::UserConfig;
pub use facts::{ClusterNetwork, cluster_networks, endpoint_host, machine_kind};
