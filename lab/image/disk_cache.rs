//! A cache of unified kernel images from disk images, keyed by the digest of the disk image. The lab
//! unpacks each disk image, which can have gigabytes, only once.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use lab_model::Digest;
use serde::{Deserialize, Serialize};

use super::{
    boot_entries::Choice,
    disk_image::{DiskImageError, take_unified},
    kept::keep_directory,
    uki::UnifiedImage,
};
use crate::AssetError;

/// The file name of the unified kernel image in an entry.
const UNIFIED: &str = "unified.efi";
/// The file name of the metadata in an entry.
const TAKEN: &str = "taken.json";

/// A directory of extracted unified kernel images. Runs can share it: each entry appears atomically by
/// rename.
#[derive(Clone, Debug)]
pub struct DiskCache {
    directory: PathBuf,
}

/// The extracted part of a disk image.
pub(super) struct Taken {
    pub(super) image: UnifiedImage,
    /// The selected boot entry.
    pub(super) choice: Choice,
}

/// The metadata of an entry.
#[derive(Serialize, Deserialize)]
struct Note {
    choice: Choice,
    /// The digest of the unified kernel image. The cache verifies it at every use.
    digest: String,
}

impl DiskCache {
    /// Creates a cache in `directory`. The first use creates the directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Creates a cache for tests without disk images. Its directory cannot be created.
    #[doc(hidden)]
    pub fn unused() -> Self {
        Self::new("/dev/null/disks")
    }

    /// Returns the unified kernel image of the disk image `disk`. Extracts it if it is not in the cache.
    pub(super) fn unified(&self, disk: &Path) -> Result<Taken, AssetError> {
        let wrong = |source: DiskImageError| AssetError::Disk { path: disk.to_owned(), source };
        let digest = File::open(disk).and_then(Digest::of_reader).map_err(AssetError::file("read", disk))?;
        let entry = self.directory.join(digest.hex());
        if let Some(taken) = kept(&entry) {
            return Ok(taken);
        }
        fs::create_dir_all(&self.directory).map_err(AssetError::file("create", &self.directory))?;
        let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(&self.directory);
        let partial = partial.map_err(AssetError::file("write in", &self.directory))?;
        let path = partial.path().join(UNIFIED);
        let mut file = File::create(&path).map_err(AssetError::file("create", &path))?;
        let choice = take_unified(disk, partial.path(), &mut file).map_err(wrong)?;
        // Report an unbootable image with the path of the disk image, and do not cache it.
        UnifiedImage::open(&path).map_err(|error| match error {
            AssetError::Kernel { source, .. } => {
                wrong(DiskImageError::Unified { name: choice.name.clone(), source })
            }
            other => other,
        })?;
        let digest =
            File::open(&path).and_then(Digest::of_reader).map_err(AssetError::file("read", &path))?;
        let note = serde_json::to_vec(&Note { choice: choice.clone(), digest: digest.to_string() });
        let path = partial.path().join(TAKEN);
        fs::write(&path, note.unwrap_or_default()).map_err(AssetError::file("write", &path))?;
        // Another run may have created the entry first, and may already read it.
        if kept(&entry).is_none() {
            let _ = fs::remove_dir_all(&entry);
        }
        keep_directory(partial, &entry).map_err(AssetError::file("create", &entry))?;
        Ok(Taken { image: UnifiedImage::open(&entry.join(UNIFIED))?, choice })
    }
}

/// Returns the content of an entry, if the entry exists and is intact.
fn kept(entry: &Path) -> Option<Taken> {
    let note: Note = serde_json::from_slice(&fs::read(entry.join(TAKEN)).ok()?).ok()?;
    let path = entry.join(UNIFIED);
    let digest = Digest::of_reader(File::open(&path).ok()?).ok()?;
    if note.digest != digest.to_string() {
        return None;
    }
    Some(Taken { image: UnifiedImage::open(&path).ok()?, choice: note.choice })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_image_fixtures::{disk, pe};

    #[test]
    fn what_was_taken_out_is_kept_and_proven() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("metal.raw");
        let unified = pe(0xaa64, &[(".linux", b"kernel"), (".initrd", b"initramfs")]);
        fs::write(&path, disk(&[("EFI/Linux/Talos-v1.11.5.efi", &unified)], &[])).expect("write");
        let cache = DiskCache::new(directory.path().join("cache"));
        let taken = || cache.unified(&path).expect("taken").image.kernel.file;
        let kept = taken();
        assert_eq!(fs::read(&kept).expect("read"), unified);
        let made = fs::metadata(&kept).expect("stat").modified().expect("mtime");
        assert_eq!(fs::metadata(taken()).expect("stat").modified().expect("mtime"), made);
        // The cache extracts a damaged entry again.
        fs::write(&kept, "damaged").expect("write");
        assert_eq!(fs::read(taken()).expect("read"), unified);
    }

    #[test]
    fn nothing_is_left_of_a_disk_image_that_cannot_be_used() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("metal.raw");
        let cache = DiskCache::new(directory.path().join("cache"));
        for files in [&[("EFI/Linux/a.efi", &b"MZ"[..])][..], &[]] {
            fs::write(&path, disk(files, &[])).expect("write");
            assert!(matches!(cache.unified(&path), Err(AssetError::Disk { .. })));
            assert_eq!(fs::read_dir(directory.path().join("cache")).expect("list").count(), 0);
        }
    }
}
