//! The way of container images to the nodes.

use serde::{Deserialize, Serialize};

/// How container images come to the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageDelivery {
    /// Over the lab LAN, from the run's registry.
    #[default]
    Mirror,
    /// On a read-only disk that all nodes share, Talos' image cache; what is not on it comes from
    /// the registry.
    Disk,
}
