//! The boot files of one role's image, found and verified.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    checksums::ChecksumFault, disk_cache::DiskCache, disk_image::DiskImageError, kernel::KernelError,
    layout::Found, part::Part, promised::promised,
};

/// A SHA-256 digest; prints as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of bytes in memory.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of everything `reader` yields.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn of_reader(mut reader: impl io::Read) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        io::copy(&mut reader, &mut hasher)?;
        Ok(Self(hasher.finalize().into()))
    }

    /// Of what `hasher` was fed.
    pub(crate) fn of_hash(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// From `sha256:` and 64 hexadecimal digits, as it prints.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("sha256:").and_then(Self::from_hex)
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}…", &self.hex()[..12])
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// Nothing that looks like an image.
    #[error(
        "no node image at {}: found {found}; expected one of: {expected} (build the reference image with: \
         make images)",
        path.display()
    )]
    NotFound {
        /// Where was looked.
        path: PathBuf,
        /// What is there.
        found: String,
        /// The layouts that would do.
        expected: String,
    },
    /// Release files of more than one image.
    #[error(
        "{} holds several variants: {variants}; name one by one of its files, e.g. {}",
        directory.display(),
        directory.join(example).display()
    )]
    SeveralVariants {
        /// Where was looked.
        directory: PathBuf,
        /// Which.
        variants: String,
        /// A file of the first.
        example: String,
    },
    /// A checksum file that does not hold.
    #[error("checksums of the image in {}: {fault}", directory.display())]
    Checksum {
        /// The image directory.
        directory: PathBuf,
        /// What is wrong.
        fault: ChecksumFault,
    },
    /// A kernel that cannot be booted.
    #[error("kernel {}: {source}", path.display())]
    Kernel {
        /// The kernel file.
        path: PathBuf,
        /// Why.
        source: KernelError,
    },
    /// A disk image that cannot be used.
    #[error("disk image {}: {source}", path.display())]
    Disk {
        /// The disk image.
        path: PathBuf,
        /// Why.
        source: DiskImageError,
    },
    /// A file that could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AssetError {
    pub(super) fn file<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> AssetError + use<'a> {
        move |source| AssetError::File { action, path: path.to_owned(), source }
    }
}

/// The boot files of an image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct NodeImage {
    /// Where they are.
    #[serde(flatten)]
    pub found: Found,
    /// Identity of kernel and initramfs together.
    pub digest: Digest,
    /// Whether a checksum file was there and held.
    pub verified: bool,
}

impl NodeImage {
    /// Finds the boot files at `path`, a directory or one file in any known layout, and verifies
    /// them against the checksum files beside them. What is taken out of a disk image is kept in
    /// `disks`.
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

/// Identity of an image whose boot files have the digests `files`.
pub(super) fn identity_of(files: &[Digest]) -> Digest {
    let mut identity = Sha256::new();
    files.iter().for_each(|file| identity.update(file.0));
    Digest(identity.finalize().into())
}

/// Digest of a boot file.
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
