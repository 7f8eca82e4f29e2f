//! The device trees of an image.

use std::collections::BTreeSet;

/// The device trees and overlays that an image has.
#[derive(Clone, Debug, Default)]
pub struct BoardFacts {
    pub files: Vec<DeviceTreeFile>,
}

/// A device tree or an overlay.
#[derive(Clone, Debug)]
pub struct DeviceTreeFile {
    /// The part of the image that has it, such as `EFI system partition`.
    pub within: String,
    pub path: String,
    /// The values of `compatible` of each enabled device, or why the file does not decode.
    pub devices: Result<Vec<BTreeSet<String>>, String>,
}
