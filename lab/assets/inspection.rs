//! What is in an image, told without booting it.

use std::{
    fmt, fs,
    io::{self, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    archive::{ArchiveError, Archives, Entry},
    checksums::{ChecksumFault, Checksums},
    compression::{Compression, unpacked},
    contents::{Contents, ContentsError, LayerContents},
    extensions::{Extension, ExtensionsError},
    kernel::raw_kernel,
    node_image::{AssetError, Digest, boot_files, digest_of, identity_of, read_checksums},
};

/// More than any initramfs unpacks to, in bytes.
const INITRAMFS_LIMIT: u64 = 4 << 30;
/// More than any `extensions.yaml` has, in bytes.
const MANIFEST_LIMIT: u64 = 1 << 20;
/// What a kernel's version string begins with (`linux_banner`, Linux init/version.c).
const BANNER: &[u8] = b"Linux version ";

/// What an image holds.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Where the image is.
    pub directory: PathBuf,
    /// Identity of kernel and initramfs together, the same as the plan of a run shows.
    pub digest: Digest,
    /// The architecture of the kernel.
    pub architecture: &'static str,
    /// Version of the kernel, when its banner could be found.
    pub kernel_version: Option<String>,
    /// Bytes of the kernel file and of the kernel unpacked.
    pub kernel_bytes: (u64, u64),
    /// How the initramfs is compressed.
    pub compression: Compression,
    /// Bytes of the initramfs file and unpacked.
    pub initramfs_bytes: (u64, u64),
    /// The squashfs files in the initramfs: root file system and extensions.
    pub layers: Vec<Layer>,
    /// What the layers bring to a node.
    pub contents: Contents,
    /// Each file that is covered by checksums or should be.
    pub checksums: Vec<(String, FileVerdict)>,
}

/// A squashfs file of an initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Its name, e.g. `rootfs.sqsh`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its content's digest.
    pub digest: Digest,
}

/// What the checksum file says of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileVerdict {
    /// It is as promised.
    Matches,
    /// It differs from what is promised.
    Mismatch,
    /// It is promised and not there.
    Missing,
    /// It is needed for booting, and no line covers it.
    Uncovered,
}

/// Why an image cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is no image, or a file of it cannot be read.
    #[error(transparent)]
    Asset(#[from] AssetError),
    /// Its initramfs is damaged.
    #[error("initramfs {}, {place}: {source}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Which stream of the file the offset counts in.
        place: String,
        /// What is wrong.
        source: ArchiveError,
    },
    /// Its list of extensions is damaged.
    #[error("initramfs {}: {source}", path.display())]
    Extensions {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ExtensionsError,
    },
    /// A layer of it is damaged.
    #[error("initramfs {}, {source}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// Which layer, where and what.
        source: ContentsError,
    },
    /// The list and the layers do not belong together.
    #[error("initramfs {}: extensions.yaml names {layer} for {extension}, and there is no such file", path.display())]
    LayerMissing {
        /// The file.
        path: PathBuf,
        /// Which layer.
        layer: String,
        /// Of which extension.
        extension: String,
    },
}

impl Inspection {
    /// Reads the image in `directory` once; takes about a second for a hundred megabytes.
    ///
    /// # Errors
    /// See [`InspectError`]. A checksum that does not hold is no error but a [`FileVerdict`].
    pub fn of(directory: &Path) -> Result<Self, InspectError> {
        let (kernel, initramfs) = boot_files(directory)?;
        let (kernel_path, initramfs_path) = (directory.join(kernel), directory.join(initramfs));
        let file = fs::read(&kernel_path).map_err(AssetError::file("read", &kernel_path))?;
        let raw =
            raw_kernel(&file).map_err(|source| AssetError::Kernel { path: kernel_path.clone(), source })?;
        let content = Initramfs::read(&initramfs_path)?;
        Ok(Self {
            directory: directory.to_owned(),
            digest: identity_of(&[digest_of(&kernel_path)?, digest_of(&initramfs_path)?]),
            architecture: "arm64",
            kernel_version: kernel_version(&raw),
            kernel_bytes: (file.len() as u64, raw.len() as u64),
            compression: content.compression,
            initramfs_bytes: (content.packed, content.unpacked),
            layers: content.layers,
            contents: content.contents,
            checksums: verdicts(directory, read_checksums(directory)?.as_ref(), &[kernel, initramfs])?,
        })
    }

    /// Whether every file is covered by checksums that hold.
    pub fn is_intact(&self) -> bool {
        self.checksums.iter().all(|(_, verdict)| *verdict == FileVerdict::Matches)
    }

    /// What `other` has more and less than this image.
    pub fn difference(&self, other: &Self) -> Difference {
        let names =
            |image: &Self| image.contents.extensions.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        let (mine, theirs) = (names(self), names(other));
        let changed = self.contents.extensions.iter().filter_map(|extension| {
            let other = other.contents.extensions.iter().find(|other| other.name == extension.name)?;
            (other.version != extension.version)
                .then(|| format!("{} {} → {}", extension.name, extension.version, other.version))
        });
        Difference {
            added: theirs.iter().filter(|name| !mine.contains(name)).cloned().collect(),
            removed: mine.iter().filter(|name| !theirs.contains(name)).cloned().collect(),
            changed: changed.collect(),
            same_digest: self.digest == other.digest,
            kernel: (self.kernel_version != other.kernel_version)
                .then(|| (self.kernel_version.clone(), other.kernel_version.clone())),
        }
    }
}

/// How one image differs from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Extensions that only the second has.
    pub added: Vec<String>,
    /// Extensions that only the first has.
    pub removed: Vec<String>,
    /// Extensions of different versions.
    pub changed: Vec<String>,
    /// Both are the same image.
    pub same_digest: bool,
    /// The kernels' versions, when they differ.
    pub kernel: Option<(Option<String>, Option<String>)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.same_digest {
            return write!(f, "the same image, by digest");
        }
        let mut parts = Vec::new();
        for (sign, names) in [("+", &self.added), ("-", &self.removed), ("~", &self.changed)] {
            parts.extend(names.iter().map(|name| format!("{sign}{name}")));
        }
        if let Some((first, second)) = &self.kernel {
            let name = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
            parts.push(format!("kernel {} → {}", name(first), name(second)));
        }
        if parts.is_empty() {
            parts.push("the same extensions and kernel, other content".to_owned());
        }
        write!(f, "{}", parts.join(", "))
    }
}

fn kernel_version(raw: &[u8]) -> Option<String> {
    let start = raw.windows(BANNER.len()).position(|window| window == BANNER)? + BANNER.len();
    let rest = raw.get(start..)?;
    let end = rest.iter().take(128).position(|byte| *byte == b' ')?;
    String::from_utf8(rest.get(..end)?.to_vec()).ok()
}

fn verdicts(
    directory: &Path,
    checksums: Option<&Checksums>,
    needed: &[&str],
) -> Result<Vec<(String, FileVerdict)>, AssetError> {
    let none = Checksums::default();
    let checksums = checksums.unwrap_or(&none);
    let mut paths: Vec<_> = checksums.paths().collect();
    paths.extend(needed.iter().filter(|needed| !checksums.paths().any(|path| path == **needed)));
    let mut verdicts = Vec::new();
    for path in paths {
        let full = directory.join(path);
        let verdict = if full.is_file() {
            match checksums.verify(path, &digest_of(&full)?) {
                Ok(()) => FileVerdict::Matches,
                Err(ChecksumFault::Uncovered { .. }) => FileVerdict::Uncovered,
                Err(_) => FileVerdict::Mismatch,
            }
        } else {
            FileVerdict::Missing
        };
        verdicts.push((path.to_owned(), verdict));
    }
    Ok(verdicts)
}

/// What an initramfs holds.
struct Initramfs {
    compression: Compression,
    packed: u64,
    unpacked: u64,
    layers: Vec<Layer>,
    contents: Contents,
}

impl Initramfs {
    fn read(path: &Path) -> Result<Self, InspectError> {
        let file = fs::File::open(path).map_err(AssetError::file("open", path))?;
        let packed = file.metadata().map_err(AssetError::file("read", path))?.len();
        let mut content = Content::default();
        let fail = |place: &str| {
            let place = place.to_owned();
            move |source| InspectError::Archive { path: path.to_owned(), place, source }
        };
        let damaged = |source| InspectError::Contents { path: path.to_owned(), source };
        // An uncompressed archive (of early modules, say) may stand before a compressed one.
        let mut archives = Archives::new(BufReader::with_capacity(1 << 20, file), INITRAMFS_LIMIT);
        let mut unpacked_bytes = 0;
        let compression = loop {
            match Compression::detect(archives.peek().map_err(fail("in the file"))?) {
                Compression::Uncompressed if archives.peek().map_err(fail("in the file"))?.is_empty() => {
                    break Compression::Uncompressed;
                }
                Compression::Uncompressed => {
                    archives.read(|entry, data| content.take(entry, data)).map_err(fail("in the file"))?;
                }
                compressed => {
                    let place = format!("in the {compressed:?} stream at byte {} of it", archives.offset());
                    let stream = unpacked(compressed, archives.into_input())
                        .map_err(|source| fail(&place)(ArchiveError::Read { offset: 0, source }))?;
                    let mut inner = Archives::new(BufReader::with_capacity(1 << 20, stream), INITRAMFS_LIMIT);
                    while !inner.peek().map_err(fail(&place))?.is_empty() {
                        inner.read(|entry, data| content.take(entry, data)).map_err(fail(&place))?;
                    }
                    unpacked_bytes += inner.offset();
                    break compressed;
                }
            }
        };
        let extensions = Extension::parse(&content.manifest)
            .map_err(|source| InspectError::Extensions { path: path.to_owned(), source })?;
        if let Some(extension) =
            extensions.iter().find(|e| !content.layers.iter().any(|layer| layer.name == e.layer))
        {
            return Err(InspectError::LayerMissing {
                path: path.to_owned(),
                layer: extension.layer.clone(),
                extension: extension.name.clone(),
            });
        }
        let unpacked = if compression == Compression::Uncompressed { packed } else { unpacked_bytes };
        let found: Result<Vec<_>, _> = content.found.into_iter().collect();
        let contents = Contents::of(&extensions, &found.map_err(damaged)?);
        Ok(Self { compression, packed, unpacked, layers: content.layers, contents })
    }
}

/// What is collected while archives are read.
struct Content {
    layers: Vec<Layer>,
    /// What is in them. A damaged layer is told of after the archive is known to be whole: a
    /// damaged archive is the better reason.
    found: Vec<Result<LayerContents, ContentsError>>,
    manifest: Vec<u8>,
}

impl Default for Content {
    fn default() -> Self {
        // An image without the file has no extensions.
        Self { layers: Vec::new(), found: Vec::new(), manifest: b"layers: []".to_vec() }
    }
}

impl Content {
    fn take(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        if entry.name == "extensions.yaml" {
            self.manifest.clear();
            data.take(MANIFEST_LIMIT).read_to_end(&mut self.manifest)?;
        } else if !entry.name.contains('/') && entry.name.ends_with(".sqsh") {
            // A squashfs file is read by seeking, which the stream cannot.
            let mut spool = io::BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
            let digest = Digest::of_reader(Copied { from: data, to: &mut spool })?;
            let mut layer = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
            layer.rewind()?;
            self.found.push(LayerContents::read(&entry.name, layer));
            self.layers.push(Layer { name: entry.name.clone(), bytes: entry.size, digest });
        }
        Ok(())
    }
}

/// Writes what is read of `from` to `to`, too.
struct Copied<'a, W> {
    from: &'a mut dyn Read,
    to: &'a mut W,
}

impl<W: io::Write> Read for Copied<'_, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.directory.display())?;
        writeln!(f, "  digest        {}", self.digest)?;
        let version = self.kernel_version.as_deref().unwrap_or("of unknown version");
        let (packed, raw) = self.kernel_bytes;
        writeln!(
            f,
            "  kernel        {version}, {}, {} MiB ({} MiB unpacked)",
            self.architecture,
            packed >> 20,
            raw >> 20
        )?;
        let (packed, whole) = self.initramfs_bytes;
        writeln!(
            f,
            "  initramfs     {} MiB, {:?} ({} MiB unpacked)",
            packed >> 20,
            self.compression,
            whole >> 20
        )?;
        for layer in &self.layers {
            writeln!(f, "  layer         {} {} KiB {}", layer.name, layer.bytes >> 10, layer.digest)?;
        }
        if self.contents.extensions.is_empty() {
            writeln!(f, "  extensions    none")?;
        }
        for extension in &self.contents.extensions {
            writeln!(f, "  extension     {} {} ({})", extension.name, extension.version, extension.layer)?;
        }
        for (path, verdict) in &self.checksums {
            let (sign, text) = match verdict {
                FileVerdict::Matches => ("✅", "matches its checksum"),
                FileVerdict::Mismatch => {
                    ("❌", "differs from its checksum: rebuild or fetch the image again")
                }
                FileVerdict::Missing => ("❌", "has a checksum and is not there"),
                FileVerdict::Uncovered => ("❌", "has no checksum"),
            };
            writeln!(f, "  {sign} {path} {text}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::squashfs, *};

    fn kernel() -> Vec<u8> {
        let mut kernel = vec![0; 0x100];
        kernel[0x38..0x3c].copy_from_slice(b"ARM\x64");
        kernel.extend(b"Linux version 6.12.5-talos (builder@) #1 SMP\0");
        kernel
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let inputs = files.iter().map(|(name, content)| {
            (cpio::NewcBuilder::new(name).mode(0o100_644), std::io::Cursor::new(content.to_vec()))
        });
        cpio::write_cpio(inputs, Vec::new()).expect("archive")
    }

    fn image(extensions: &[&str]) -> tempfile::TempDir {
        let mut manifest = "layers:\n".to_owned();
        let mut files: Vec<(String, Vec<u8>)> = vec![("rootfs.sqsh".into(), squashfs(&[]))];
        for (number, name) in extensions.iter().enumerate() {
            manifest += &format!("- {{image: {number}.sqsh, metadata: {{name: {name}, version: v1}}}}\n");
            files.push((format!("{number}.sqsh"), squashfs(&[(name, b"")])));
        }
        files.push(("extensions.yaml".into(), manifest.into_bytes()));
        let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let packed = zstd::encode_all(&archive(&files)[..], 1).expect("encode");
        let directory = tempfile::tempdir().expect("tempdir");
        fs::write(directory.path().join("vmlinuz"), kernel()).expect("write");
        // Early modules stand uncompressed before the rest, as some images have it.
        let whole = [archive(&[("modules/a.ko", b"ELF")]), packed].concat();
        fs::write(directory.path().join("initramfs.xz"), whole).expect("write");
        directory
    }

    #[test]
    fn an_image_tells_its_kernel_layers_and_extensions() {
        let directory = image(&["drbd", "spin"]);
        let seen = Inspection::of(directory.path()).expect("inspect");
        assert_eq!(seen.kernel_version.as_deref(), Some("6.12.5-talos"));
        assert_eq!(seen.compression, Compression::Zstd);
        let layers: Vec<_> = seen.layers.iter().map(|layer| layer.name.as_str()).collect();
        assert_eq!(layers, ["rootfs.sqsh", "0.sqsh", "1.sqsh"]);
        assert_eq!(seen.digest, crate::assets::NodeImage::open(directory.path()).expect("open").digest);
        assert!(!seen.is_intact(), "there are no checksums");
    }

    #[test]
    fn the_difference_of_two_images_is_their_extensions() {
        let (compute, gateway) = (image(&["drbd", "spin"]), image(&["drbd", "spin", "tailscale"]));
        let compute = Inspection::of(compute.path()).expect("inspect");
        let gateway = Inspection::of(gateway.path()).expect("inspect");
        assert_eq!(compute.difference(&gateway).to_string(), "+tailscale");
        assert_eq!(gateway.difference(&compute).to_string(), "-tailscale");
        assert_eq!(compute.difference(&compute).to_string(), "the same image, by digest");
    }

    #[test]
    fn checksums_are_told_file_by_file() {
        let directory = image(&[]);
        let digest = digest_of(&directory.path().join("vmlinuz")).expect("digest").hex();
        let sums = format!("{digest}  ./vmlinuz\n{digest}  gone\n");
        fs::write(directory.path().join("checksums.sha256"), sums).expect("write");
        let seen = Inspection::of(directory.path()).expect("inspect").checksums;
        let expected = [
            ("gone".to_owned(), FileVerdict::Missing),
            ("vmlinuz".to_owned(), FileVerdict::Matches),
            ("initramfs.xz".to_owned(), FileVerdict::Uncovered),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_truncated_initramfs_is_an_error_with_its_place() {
        let directory = image(&["drbd"]);
        let path = directory.path().join("initramfs.xz");
        let whole = fs::read(&path).expect("read");
        fs::write(&path, &whole[..whole.len() - 20]).expect("write");
        let error = Inspection::of(directory.path()).expect_err("truncated").to_string();
        assert!(error.contains("in the Zstd stream at byte"), "{error}");
    }
}
