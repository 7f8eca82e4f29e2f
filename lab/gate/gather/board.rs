//! Reads the device trees of an image.

use std::path::Path;

use lab_image::{board_files, device_tree_devices};

use crate::evidence::{BoardFacts, DeviceTreeFile};

/// Reads the device trees below a directory, or in the EFI system partition of a raw disk image.
pub(super) fn board_facts(path: &Path, scratch: &Path) -> Result<BoardFacts, String> {
    let files = board_files(path, scratch).map_err(|error| error.to_string())?.into_iter().map(|file| {
        let within = if file.within.is_empty() { "files of the image".to_owned() } else { file.within };
        DeviceTreeFile { within, path: file.path, devices: device_tree_devices(&file.content) }
    });
    Ok(BoardFacts { files: files.collect() })
}
