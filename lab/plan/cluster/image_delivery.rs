//! The delivery of container images to the nodes.

use serde::{Deserialize, Serialize};

/// The delivery method for container images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageDelivery {
    /// Over the lab LAN, from the run's registry.
    #[default]
    Mirror,
    /// On a read-only disk that all nodes share (Talos image cache). The registry provides images that
    /// are not on the disk.
    Disk,
}
