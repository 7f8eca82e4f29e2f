//! Inspection of an image without booting it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab_model::Digest;
use serde::Serialize;

use super::{
    checksums::ChecksumFault,
    compression::Compression,
    contents::Contents,
    difference::Difference,
    disk_cache::DiskCache,
    initramfs::{Initramfs, InitramfsError, InitramfsLayer},
    kernel::raw_kernel,
    kernel_error::KERNEL_LIMIT,
    kernel_facts::KernelFacts,
    layout::Found,
    node_image::{digest_of, identity_of},
    part::Part,
    promised::promised,
};
use crate::AssetError;

/// The contents of an image.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The image path, as the user named it.
    pub directory: PathBuf,
    /// The name of the detected layout.
    pub layout: String,
    /// The kernel arguments in the image, if any.
    pub arguments: Option<String>,
    /// The combined digest of kernel and initramfs. The plan of a run shows the same digest.
    pub digest: Digest,
    /// The architecture of the kernel.
    pub architecture: &'static str,
    /// The kernel version, if the reader found the banner.
    pub kernel_version: Option<String>,
    /// The digest of the unpacked kernel.
    #[serde(skip)]
    pub kernel_digest: Digest,
    /// What the kernel says about its modules.
    #[serde(skip)]
    pub kernel: KernelFacts,
    /// The sizes of the kernel file and of the unpacked kernel, in bytes.
    pub kernel_bytes: (u64, u64),
    /// The compression of the initramfs.
    pub compression: Compression,
    /// The packed and unpacked sizes of the initramfs, in bytes.
    pub initramfs_bytes: (u64, u64),
    /// The squashfs files in the initramfs: root file system and extensions, including `modules.dep` and
    /// `schematic`.
    pub layers: Vec<InitramfsLayer>,
    /// The contents of the layers.
    pub contents: Contents,
    /// All files that checksums cover or must cover.
    pub checksums: Vec<CheckedFile>,
}

/// A file that a checksum covers or must cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedFile {
    /// The path relative to the image directory.
    pub path: String,
    /// The result of the checksum verification.
    pub verdict: FileVerdict,
    /// The size, if the file exists.
    pub bytes: Option<u64>,
    /// The digest of the content, if the file exists.
    pub digest: Option<Digest>,
}

/// The result of the checksum verification for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileVerdict {
    /// The file matches its checksum.
    Matches,
    /// The file does not match its checksum.
    Mismatch,
    /// The checksum file lists the file, but it does not exist.
    Missing,
    /// The file is required for booting, but no checksum covers it.
    Uncovered,
}

/// The reason an image cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The path is not an image, or a file cannot be read.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// The initramfs is damaged.
    #[error("initramfs {}, {source}", path.display())]
    Initramfs {
        /// The initramfs file.
        path: PathBuf,
        source: InitramfsError,
    },
}

impl Inspection {
    /// Reads the image at `path`, a directory or a file in any known layout, in one pass. Reads a hundred
    /// megabytes in about a second. `disks` caches files extracted from disk images.
    ///
    /// # Errors
    /// See [`InspectError`]. A failed checksum is not an error but a [`FileVerdict`].
    pub fn of(path: &Path, disks: &DiskCache) -> Result<Self, InspectError> {
        let found = Found::at(path, disks)?;
        // Hashing and unpacking are CPU-bound, so each file uses its own core.
        let (kernel_file, content) = std::thread::scope(|scope| {
            let content = scope.spawn(|| initramfs_content(&found.initramfs));
            let kernel_file = KernelFile::read(&found.kernel);
            (kernel_file, content.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (file, content) = (kernel_file?, content?);
        let known = [(&found.kernel, &file.digest), (&found.initramfs, &content.digest)];
        Ok(Self {
            directory: path.to_owned(),
            digest: identity_of(&known.map(|(_, digest)| digest.clone())),
            architecture: "arm64",
            kernel_version: file.facts.release.clone(),
            kernel_digest: file.raw_digest,
            kernel: file.facts,
            kernel_bytes: (file.packed, file.unpacked),
            compression: content.compression,
            initramfs_bytes: (content.packed, content.unpacked),
            layers: content.layers,
            contents: content.contents,
            checksums: verdicts(&found, &known)?,
            layout: found.layout,
            arguments: found.arguments,
        })
    }

    /// Reports whether valid checksums cover every file.
    pub fn is_intact(&self) -> bool {
        self.checksums.iter().all(|file| file.verdict == FileVerdict::Matches)
    }

    /// Returns the layer with this name, e.g. `rootfs.sqsh`.
    pub fn layer(&self, name: &str) -> Option<&InitramfsLayer> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// Returns the changes from this image to `other`.
    pub fn difference(&self, other: &Self) -> Difference {
        Difference::between(self, other)
    }
}

/// The properties of a kernel file.
struct KernelFile {
    digest: Digest,
    raw_digest: Digest,
    facts: KernelFacts,
    packed: u64,
    unpacked: u64,
}

impl KernelFile {
    fn read(part: &Part) -> Result<Self, AssetError> {
        let file = part.read(KERNEL_LIMIT).map_err(AssetError::file("read", &part.file))?;
        let raw =
            raw_kernel(&file).map_err(|source| AssetError::Kernel { path: part.file.clone(), source })?;
        Ok(Self {
            digest: Digest::of_bytes(&file),
            raw_digest: Digest::of_bytes(&raw),
            facts: KernelFacts::of(&raw),
            packed: file.len() as u64,
            unpacked: raw.len() as u64,
        })
    }
}

fn initramfs_content(part: &Part) -> Result<Initramfs, InspectError> {
    let opened = part.open().map_err(AssetError::file("open", &part.file))?;
    Initramfs::read(opened).map_err(|source| InspectError::Initramfs { path: part.file.clone(), source })
}

/// Verifies all boot files and all files with checksums. `known` contains the digests of the boot files.
fn verdicts(found: &Found, known: &[(&Part, &Digest)]) -> Result<Vec<CheckedFile>, AssetError> {
    let checksums = promised(found)?.unwrap_or_default();
    let mut paths: Vec<String> = checksums.paths().map(str::to_owned).collect();
    for file in &found.files {
        let path = found.name_of(file);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let checked = |path: &str| {
        let full = found.root.join(path);
        let Some(about) = fs::metadata(&full).ok().filter(fs::Metadata::is_file) else {
            let (path, verdict) = (path.to_owned(), FileVerdict::Missing);
            return Ok(CheckedFile { path, verdict, bytes: None, digest: None });
        };
        let whole = Part::whole(full);
        let digest = match known.iter().find(|(part, _)| **part == whole) {
            Some((_, digest)) => (*digest).clone(),
            None => digest_of(&whole)?,
        };
        let verdict = match checksums.verify(path, &digest) {
            Ok(()) => FileVerdict::Matches,
            Err(ChecksumFault::Uncovered { .. }) => FileVerdict::Uncovered,
            Err(_) => FileVerdict::Mismatch,
        };
        Ok(CheckedFile { path: path.to_owned(), verdict, bytes: Some(about.len()), digest: Some(digest) })
    };
    paths.iter().map(|path| checked(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_image_fixtures::{archive, disk, initramfs, kernel, pe};

    fn image(extensions: &[&str]) -> tempfile::TempDir {
        let files: Vec<[(&str, &[u8]); 1]> = extensions.iter().map(|name| [(*name, &b""[..])]).collect();
        let extensions: Vec<_> =
            extensions.iter().zip(&files).map(|(name, file)| (*name, &file[..])).collect();
        let packed = initramfs(&extensions);
        let directory = tempfile::tempdir().expect("tempdir");
        fs::write(directory.path().join("vmlinuz"), kernel()).expect("write");
        // Some images place an uncompressed archive with early modules first.
        let whole = [archive(&[("modules/a.ko", b"ELF")]), packed].concat();
        fs::write(directory.path().join("initramfs.xz"), whole).expect("write");
        directory
    }

    #[test]
    fn an_image_tells_its_kernel_layers_and_extensions() {
        let directory = image(&["drbd", "spin"]);
        let seen = Inspection::of(directory.path(), &DiskCache::unused()).expect("inspect");
        assert_eq!(seen.kernel_version.as_deref(), Some("6.12.5-talos"));
        assert_eq!(seen.compression, Compression::Zstd);
        let layers: Vec<_> = seen.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(layers, ["rootfs.sqsh", "0.sqsh", "1.sqsh"]);
        assert_eq!(
            seen.digest,
            crate::NodeImage::open(directory.path(), &DiskCache::unused()).expect("open").digest
        );
        assert!(!seen.is_intact(), "there are no checksums");
    }

    #[test]
    fn the_difference_of_two_images_is_their_extensions() {
        let (compute, gateway) = (image(&["drbd", "spin"]), image(&["drbd", "spin", "tailscale"]));
        let compute = Inspection::of(compute.path(), &DiskCache::unused()).expect("inspect");
        let gateway = Inspection::of(gateway.path(), &DiskCache::unused()).expect("inspect");
        assert_eq!(compute.difference(&gateway).to_string(), "+tailscale");
        assert_eq!(gateway.difference(&compute).to_string(), "-tailscale");
        assert_eq!(compute.difference(&compute).to_string(), "the same image, by digest");
    }

    #[test]
    fn checksums_are_told_file_by_file() {
        let directory = image(&[]);
        let digest = digest_of(&Part::whole(directory.path().join("vmlinuz"))).expect("digest").hex();
        let sums = format!("{digest}  ./vmlinuz\n{digest}  gone\n");
        fs::write(directory.path().join("checksums.sha256"), sums).expect("write");
        let seen = Inspection::of(directory.path(), &DiskCache::unused()).expect("inspect").checksums;
        let seen: Vec<_> = seen.into_iter().map(|file| (file.path, file.verdict)).collect();
        let expected = [
            ("gone".to_owned(), FileVerdict::Missing),
            ("vmlinuz".to_owned(), FileVerdict::Matches),
            ("initramfs.xz".to_owned(), FileVerdict::Uncovered),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_disk_image_is_told_as_what_was_taken_of_it_and_by_its_own_checksum() {
        let directory = tempfile::tempdir().expect("tempdir");
        let unified = pe(0xaa64, &[(".linux", &kernel()), (".initrd", &initramfs(&[("spin", &[])]))]);
        let image = zstd::encode_all(&disk(&[("EFI/Linux/Talos-v1.11.5.efi", &unified)], &[])[..], 1);
        let path = directory.path().join("metal-arm64.raw.zst");
        fs::write(&path, image.expect("encode")).expect("write");
        let digest = digest_of(&Part::whole(&path)).expect("digest").hex();
        fs::write(directory.path().join("metal-arm64.raw.zst.sha256"), digest).expect("write");
        let cache = DiskCache::new(directory.path().join("cache"));
        let seen = Inspection::of(&path, &cache).expect("inspect");
        assert!(seen.is_intact());
        assert_eq!(seen.contents.extensions[0].name, "spin");
        let text = seen.to_string();
        let layout = "layout         disk image: UKI Talos-v1.11.5.efi in the EFI system partition\n";
        assert!(text.contains(layout), "{text}");
        assert!(text.contains("✅ metal-arm64.raw.zst matches its checksum"), "{text}");
    }

    #[test]
    fn a_truncated_initramfs_is_an_error_with_its_place() {
        let directory = image(&["drbd"]);
        let path = directory.path().join("initramfs.xz");
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..whole.len() - 20]).expect("write");
        let error =
            Inspection::of(directory.path(), &DiskCache::unused()).expect_err("truncated").to_string();
        assert!(error.contains("in the Zstd stream at byte"), "{error}");
    }
}
