//! A cache of boot files for QEMU, keyed by digest. The host unpacks them once, so guests do not unpack
//! them under emulation at every boot. The cache also stores the contents of the layers.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter},
    path::{Path, PathBuf},
};

use super::{
    compression::{Compression, decompress},
    contents::Contents,
    kept::keep_directory,
    kernel::raw_kernel,
    kernel_error::KERNEL_LIMIT,
    node_image::NodeImage,
    part::Part,
};
use crate::AssetError;

/// A limit in bytes, above the size of any unpacked initramfs.
const INITRAMFS_LIMIT: u64 = 4 << 30;
/// Increment this version if the layer scan changes. The lab then rescans layers that an earlier version
/// cached.
const CONTENTS_FORMAT: u32 = 2;

/// A directory of prepared boot files. Runs can share it: each entry appears atomically by rename.
#[derive(Clone, Debug)]
pub struct BootCache {
    directory: PathBuf,
}

/// A kernel and an initramfs for direct boot with QEMU.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BootFiles {
    /// A raw arm64 `Image`.
    pub kernel: PathBuf,
    /// An uncompressed cpio archive.
    pub initramfs: PathBuf,
}

impl BootCache {
    /// Creates a cache in `directory`. The first use creates the directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Returns the prepared boot files of `image`. Prepares them if they are not in the cache.
    ///
    /// # Errors
    /// Returns an error if the kernel is not bootable, or if files cannot be read or written.
    pub fn prepare(&self, image: &NodeImage) -> Result<BootFiles, AssetError> {
        let entry = self.directory.join(image.digest.hex());
        let files = BootFiles { kernel: entry.join("Image"), initramfs: entry.join("initramfs.cpio") };
        if entry.is_dir() {
            return Ok(files);
        }
        fs::create_dir_all(&self.directory).map_err(AssetError::file("create", &self.directory))?;
        let partial = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(&self.directory)
            .map_err(AssetError::file("write in", &self.directory))?;
        unpack_kernel(&image.found.kernel, &partial.path().join("Image"))?;
        unpack_initramfs(&image.found.initramfs, &partial.path().join("initramfs.cpio"))?;
        keep_directory(partial, &entry).map_err(AssetError::file("create", &entry))?;
        Ok(files)
    }

    /// Returns the layer contents of a prepared image. Calls `look` on a cache miss.
    ///
    /// # Errors
    /// Returns the errors of `look`. An unreadable or unwritable cache only costs time.
    pub fn contents<E>(
        &self,
        image: &NodeImage,
        look: impl FnOnce() -> Result<Contents, E>,
    ) -> Result<Contents, E> {
        let name = format!("contents-{}-{CONTENTS_FORMAT}.json", env!("CARGO_PKG_VERSION"));
        let kept = self.directory.join(image.digest.hex()).join(name);
        let known = fs::read(&kept).ok().and_then(|json| serde_json::from_slice(&json).ok());
        if let Some(contents) = known {
            return Ok(contents);
        }
        let contents = look()?;
        let _ = keep_contents(&kept, &contents);
        Ok(contents)
    }
}

/// Writes the file atomically.
fn keep_contents(to: &Path, contents: &Contents) -> io::Result<()> {
    let directory = to.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer(&mut file, contents)?;
    file.persist(to)?;
    Ok(())
}

fn unpack_kernel(from: &Part, to: &Path) -> Result<(), AssetError> {
    let file = from.read(KERNEL_LIMIT).map_err(AssetError::file("read", &from.file))?;
    let image = raw_kernel(&file).map_err(|source| AssetError::Kernel { path: from.file.clone(), source })?;
    fs::write(to, image).map_err(AssetError::file("write", to))
}

fn unpack_initramfs(from: &Part, to: &Path) -> Result<(), AssetError> {
    let opened = from.open().map_err(AssetError::file("open", &from.file))?;
    let from = &from.file;
    let mut input = BufReader::with_capacity(1 << 20, opened);
    let compression = Compression::detect(input.fill_buf().map_err(AssetError::file("read", from))?);
    let mut output =
        BufWriter::with_capacity(1 << 20, fs::File::create(to).map_err(AssetError::file("create", to))?);
    decompress(compression, input, &mut output, INITRAMFS_LIMIT).map_err(AssetError::file("unpack", from))?;
    output.into_inner().map_err(|error| AssetError::file("write", to)(error.into_error()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskCache;

    #[test]
    fn files_are_unpacked_once_and_kept_by_digest() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut kernel = vec![0u8; 0x100];
        kernel[0x38..0x3c].copy_from_slice(b"ARM\x64");
        let archive = b"070701".repeat(500);
        fs::write(directory.path().join("vmlinuz"), &kernel).expect("write");
        fs::write(directory.path().join("initramfs.xz"), zstd::encode_all(&archive[..], 1).expect("encode"))
            .expect("write");
        let image = NodeImage::open(directory.path(), &DiskCache::unused()).expect("open");
        let cache = BootCache::new(directory.path().join("cache"));
        let files = cache.prepare(&image).expect("prepare");
        assert_eq!(fs::read(&files.kernel).expect("kernel"), kernel);
        assert_eq!(fs::read(&files.initramfs).expect("initramfs"), archive);
        let made = fs::metadata(&files.initramfs).expect("stat").modified().expect("mtime");
        assert_eq!(cache.prepare(&image).expect("again"), files);
        assert_eq!(fs::metadata(&files.initramfs).expect("stat").modified().expect("mtime"), made);

        let found = Contents { runtime_handlers: vec!["spin".into()], ..Contents::default() };
        let failed = cache.contents(&image, || Err("damaged"));
        assert_eq!(failed, Err("damaged"), "a failure is not kept");
        assert_eq!(cache.contents(&image, || Ok::<_, ()>(found.clone())), Ok(found.clone()));
        assert_eq!(cache.contents(&image, || Err(())), Ok(found));
    }

    #[test]
    fn nothing_is_left_of_an_image_that_does_not_unpack() {
        let directory = tempfile::tempdir().expect("tempdir");
        fs::write(directory.path().join("vmlinuz"), "no kernel").expect("write");
        fs::write(directory.path().join("initramfs.xz"), "x").expect("write");
        let image = NodeImage::open(directory.path(), &DiskCache::unused()).expect("open");
        let cache = BootCache::new(directory.path().join("cache"));
        assert!(matches!(cache.prepare(&image), Err(AssetError::Kernel { .. })));
        assert_eq!(fs::read_dir(directory.path().join("cache")).expect("list").count(), 0);
    }
}
