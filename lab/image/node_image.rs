//! The verified boot files of a role's image.

use std::path::Path;

use lab_model::Digest;
use sha2::{Digest as _, Sha256};

use super::{asset_error::AssetError, disk_cache::DiskCache, layout::Found, part::Part, promised::promised};

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeImage {
    /// The location of the boot files.
    #[serde(flatten)]
    pub found: Found,
    /// The combined digest of kernel and initramfs.
    pub digest: Digest,
    /// True if a checksum file exists and matches.
    pub verified: bool,
}

impl NodeImage {
    /// Finds the boot files at `path`, a directory or a file in any known layout. Verifies them against the
    /// checksum files in the same directory. `disks` caches files extracted from disk images.
    ///
    /// # Errors
    /// See [`AssetError`].
    pub fn open(path: &Path, disks: &DiskCache) -> Result<Self, AssetError> {
        let found = Found::at(path, disks)?;
        let checksums = promised(&found)?;
        let parts = [&found.kernel, &found.initramfs];
        let digests = [digest_of(parts[0])?, digest_of(parts[1])?];
        for file in checksums.as_ref().map_or(&[][..], |_| &found.files) {
            let whole = Part::whole(file);
            let known = parts.iter().position(|part| **part == whole);
            let digest = known.map_or_else(|| digest_of(&whole), |at| Ok(digests[at].clone()))?;
            let verified = checksums.iter().try_for_each(|sums| sums.verify(&found.name_of(file), &digest));
            verified.map_err(|fault| AssetError::Checksum { directory: found.root.clone(), fault })?;
        }
        Ok(Self { found, digest: identity_of(&digests), verified: checksums.is_some() })
    }
}

/// Combines the digests `files` of the boot files into the digest of the image.
pub(super) fn identity_of(files: &[Digest]) -> Digest {
    let mut identity = Sha256::new();
    files.iter().for_each(|file| identity.update(file.as_bytes()));
    Digest::of_hash(identity)
}

pub(super) fn digest_of(part: &Part) -> Result<Digest, AssetError> {
    part.open().and_then(Digest::of_reader).map_err(AssetError::file("read", &part.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(checksums: impl FnOnce(&Path) -> String) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(directory.path().join("boot")).expect("mkdir");
        std::fs::write(directory.path().join("boot/vmlinuz"), "kernel").expect("write");
        std::fs::write(directory.path().join("boot/initramfs.xz"), "initramfs").expect("write");
        let text = checksums(directory.path());
        if !text.is_empty() {
            std::fs::write(directory.path().join("checksums.sha256"), text).expect("write");
        }
        directory
    }

    fn line(content: &str, path: &str) -> String {
        format!("{}  ./{path}\n", Digest::of_bytes(content.as_bytes()).hex())
    }

    #[test]
    fn a_verified_image_and_one_without_checksums_open() {
        let good =
            image(|_| line("kernel", "boot/vmlinuz") + line("initramfs", "boot/initramfs.xz").as_str());
        let bare = image(|_| String::new());
        let good = NodeImage::open(good.path(), &DiskCache::unused()).expect("open");
        let bare = NodeImage::open(bare.path(), &DiskCache::unused()).expect("open");
        assert!(good.verified && !bare.verified);
        assert_eq!(good.digest, bare.digest);
    }

    #[test]
    fn one_changed_byte_is_found() {
        let directory =
            image(|_| line("Kernel", "boot/vmlinuz") + line("initramfs", "boot/initramfs.xz").as_str());
        let error =
            NodeImage::open(directory.path(), &DiskCache::unused()).expect_err("mismatch").to_string();
        assert!(error.contains("boot/vmlinuz has sha256:"), "{error}");
    }

    #[test]
    fn an_uncovered_file_is_found() {
        let directory = image(|_| line("kernel", "boot/vmlinuz"));
        let error =
            NodeImage::open(directory.path(), &DiskCache::unused()).expect_err("uncovered").to_string();
        assert!(error.contains("boot/initramfs.xz is not covered"), "{error}");
    }

    #[test]
    fn a_directory_without_an_image_says_what_is_there() {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join("notes.txt"), "").expect("write");
        let error = NodeImage::open(directory.path(), &DiskCache::unused()).expect_err("nothing").to_string();
        assert!(error.contains("found notes.txt; expected one of: "), "{error}");
    }
}
