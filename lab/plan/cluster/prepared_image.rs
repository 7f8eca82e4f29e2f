//! An image that a node can boot.

use lab_image::{BootFiles, Contents};
use lab_model::{Digest, Origin};
use serde::Serialize;

/// A prepared, bootable image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PreparedImage {
    /// The origin of the image.
    pub origin: Origin,
    /// Digest of the prepared image.
    pub digest: Digest,
    /// The boot files for QEMU.
    pub boot: BootFiles,
    /// The contents of the image layers.
    pub contents: Contents,
    /// The kernel arguments in the image, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}
