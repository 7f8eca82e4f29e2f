//! Device trees of an image: the files that have them, and the devices in them.
//!
//! Format: Devicetree Specification v0.4, chapters 2 (properties `compatible` and `status`) and 5 (the flattened form).
//! Overlays have the same form.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use dtoolkit::{Node, Property, fdt::Fdt};
use walkdir::WalkDir;

use super::{
    compression::{Compression, decompress},
    disk_image::{DISK_LIMIT, DiskImage, DiskImageError, Sparse, is_disk_image},
};

/// The largest device tree, in bytes; those of boards have less than 200 KiB.
const TREE_LIMIT: u64 = 4 << 20;
/// The maximum number of device trees of an image. Some boards bring hundreds of overlays.
const TREES_LIMIT: usize = 4096;
/// The maximum size of all of them, in bytes.
const ALL_LIMIT: usize = 256 << 20;
/// The maximum number of devices of a tree.
const NODES_LIMIT: usize = 100_000;
/// The largest list of `compatible`, in values.
const VALUES_LIMIT: usize = 64;

/// A device tree or an overlay.
pub struct BoardFile {
    /// What has it, e.g. `EFI system partition of metal-arm64.raw.xz`; empty for a file of the image.
    pub within: String,
    pub path: String,
    pub content: Vec<u8>,
}

/// Returns the device trees and overlays below a directory, and in the EFI system partitions of its disk images.
/// `path` may also be a disk image. Unpacks a compressed disk image to a temporary file in `scratch`.
///
/// # Errors
/// Returns an error if a file cannot be read, or if there are too many.
pub fn board_files(path: &Path, scratch: &Path) -> Result<Vec<BoardFile>, DiskImageError> {
    let mut found = Vec::new();
    let mut room = Room::default();
    for entry in WalkDir::new(path).max_depth(12).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from)?;
        if !entry.file_type().is_file() {
            continue;
        }
        let name = entry.path().strip_prefix(path).unwrap_or(entry.path()).display().to_string();
        if is_tree(&name) {
            let mut content = Vec::new();
            File::open(entry.path())?.take(TREE_LIMIT + 1).read_to_end(&mut content)?;
            room.take(&name, content.len())?;
            found.push(BoardFile { within: String::new(), path: name, content });
        } else if is_disk_image(entry.path()).unwrap_or(false) {
            let within = format!("EFI system partition of {}", entry.file_name().to_string_lossy());
            for (path, content) in of_disk(entry.path(), scratch, &mut room)? {
                found.push(BoardFile { within: within.clone(), path, content });
            }
        }
    }
    Ok(found)
}

fn of_disk(file: &Path, scratch: &Path, room: &mut Room) -> Result<Vec<(String, Vec<u8>)>, DiskImageError> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let compression = Compression::detect(input.fill_buf()?);
    let disk = if compression == Compression::Uncompressed {
        input.into_inner()
    } else {
        std::fs::create_dir_all(scratch)?;
        let mut disk = Sparse::new(tempfile::tempfile_in(scratch)?);
        decompress(compression, input, &mut disk, DISK_LIMIT)?;
        disk.finish()?
    };
    DiskImage::read(disk)?
        .system_files(&|name| is_tree(name), TREE_LIMIT, &mut |name, size| room.take(name, size))
}

fn is_tree(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".dtb") || name.ends_with(".dtbo")
}

/// How many and how large the files may be.
#[derive(Default)]
struct Room {
    files: usize,
    bytes: usize,
}

impl Room {
    fn take(&mut self, name: &str, bytes: usize) -> io::Result<()> {
        self.files += 1;
        self.bytes += bytes;
        if bytes as u64 > TREE_LIMIT || self.files > TREES_LIMIT || self.bytes > ALL_LIMIT {
            let why =
                format!("{name}: the device trees of the image are larger or more than those of any board");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(())
    }
}

/// Returns the values of `compatible` of each enabled device in a device tree or overlay.
///
/// # Errors
/// Returns a description of the damage.
pub fn device_tree_devices(blob: &[u8]) -> Result<Vec<BTreeSet<String>>, String> {
    let tree = Fdt::new(blob).map_err(|error| error.to_string())?;
    let mut devices = Vec::new();
    let mut waiting = vec![tree.root()];
    let mut seen = 0;
    while let Some(node) = waiting.pop() {
        seen += 1;
        if seen > NODES_LIMIT {
            return Err(format!("it has more than {NODES_LIMIT} nodes; no board has"));
        }
        let text = |name: &str| node.property(name).map(|property| values(property.value()));
        let status = text("status").and_then(|mut values| values.pop());
        // A disabled device disables what is below it.
        if status.is_some_and(|status| !["okay", "ok"].contains(&status.as_str())) {
            continue;
        }
        let compatible: BTreeSet<_> = text("compatible").unwrap_or_default().into_iter().collect();
        if !compatible.is_empty() {
            devices.push(compatible);
        }
        waiting.extend(node.children());
    }
    Ok(devices)
}

/// Splits a list of texts.
fn values(property: &[u8]) -> Vec<String> {
    let texts = property.split(|byte| *byte == 0).filter(|text| !text.is_empty()).take(VALUES_LIMIT);
    texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::{device_tree, disk, xz};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn enabled_devices_have_their_compatible_values() {
        let tree = device_tree(&[
            ("soc", "simple-bus", ""),
            ("mmc", "b,sd\0a,mmc", "okay"),
            ("nic", "a,nic", "disabled"),
        ]);
        let devices = device_tree_devices(&tree).expect("tree");
        let expected = [
            BTreeSet::from(["a,mmc".to_owned(), "b,sd".to_owned()]),
            BTreeSet::from(["simple-bus".to_owned()]),
        ];
        assert_eq!(devices, expected);
        assert!(device_tree_devices(&tree[..tree.len() - 8]).is_err(), "truncated");
    }

    #[test]
    fn trees_are_found_in_directories_and_in_disk_images() {
        let tree = device_tree(&[("mmc", "a,mmc", "")]);
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(directory.path().join("dtb")).expect("mkdir");
        std::fs::write(directory.path().join("dtb/a.dtb"), &tree).expect("write");
        std::fs::write(directory.path().join("notes"), b"x").expect("write");
        let image = disk(&[("overlays/b.dtbo", &tree[..]), ("config.txt", b"x")], &[]);
        std::fs::write(directory.path().join("metal.raw.xz"), xz(&image)).expect("write");
        let files = board_files(directory.path(), &directory.path().join("scratch")).expect("files");
        let names: Vec<_> = files.iter().map(|file| (file.within.as_str(), file.path.as_str())).collect();
        let disk = "EFI system partition of metal.raw.xz";
        assert_eq!(names, [("", "dtb/a.dtb"), (disk, "overlays/b.dtbo")]);
        assert!(files.iter().all(|file| file.content == tree));
    }

    proptest! {
        #[test]
        fn damage_ends_without_a_panic(at: prop::sample::Index, byte: u8, keep: prop::sample::Index) {
            let mut tree = device_tree(&[("a", "b,c", "okay"), ("d", "e", "")]);
            let length = tree.len();
            tree[at.index(length)] = byte;
            let _ = device_tree_devices(&tree[..keep.index(length)]);
        }
    }
}
