//! The delivery of container images to the nodes.

use lab_model::accelerator::Accelerator;
use serde::{Deserialize, Serialize};

use crate::config::NodeSoftware;

/// The delivery method for container images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageDelivery {
    /// [`ImageDelivery::Preloaded`] for emulated Talos nodes, which unpack images for a minute and more, and
    /// [`ImageDelivery::Mirror`] for all others.
    #[default]
    Auto,
    /// Over the lab LAN, from the run's registry.
    Mirror,
    /// On a read-only disk that all nodes share (Talos image cache). The registry provides images that
    /// are not on the disk.
    Disk,
    /// On the disk of each node, unpacked. A node of the lab pulled the images once, and wiped its own state. The
    /// registry provides images that are not on the disk.
    Preloaded,
}

impl ImageDelivery {
    /// Resolves `Auto` for a cluster whose control plane runs `software`.
    pub(super) fn resolved(self, software: &NodeSoftware, accelerator: Accelerator) -> Self {
        match (self, software, accelerator) {
            (Self::Auto, NodeSoftware::Talos(_), Accelerator::Tcg) => Self::Preloaded,
            (Self::Auto, _, _) => Self::Mirror,
            (asked, _, _) => asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_emulated_talos_nodes_are_preloaded_without_a_request() {
        let talos = NodeSoftware::Talos("v1.13.9".parse().expect("release"));
        let resolved = |delivery: ImageDelivery, software: &NodeSoftware, accelerator| {
            delivery.resolved(software, accelerator)
        };
        assert_eq!(resolved(ImageDelivery::Auto, &talos, Accelerator::Tcg), ImageDelivery::Preloaded);
        assert_eq!(resolved(ImageDelivery::Auto, &talos, Accelerator::Kvm), ImageDelivery::Mirror);
        assert_eq!(
            resolved(ImageDelivery::Auto, &NodeSoftware::Reference, Accelerator::Tcg),
            ImageDelivery::Mirror
        );
        for asked in [ImageDelivery::Mirror, ImageDelivery::Disk, ImageDelivery::Preloaded] {
            assert_eq!(resolved(asked, &talos, Accelerator::Tcg), asked);
        }
    }
}
