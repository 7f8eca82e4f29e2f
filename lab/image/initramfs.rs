//! Reads an initramfs file sequentially, in one pass.
//!
//! An initramfs consists of one or more cpio archives. The last archive is usually compressed. The reader
//! inspects the squashfs layers and the list of extensions.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::Arc,
};

use lab_model::Digest;
use serde::Serialize;

use super::{
    archive::{ArchiveEntry, ArchiveError, Archives},
    compression::{Compression, unpacked},
    contents::{Contents, ContentsError, LayerContents},
    extensions::{Extension, ExtensionsError},
    hashed::Hashed,
    layer_file::LayerFile,
    squashfs::{Squashfs, SquashfsError},
};

/// A limit in bytes, above the size of any unpacked initramfs.
const UNPACKED_LIMIT: u64 = 2 << 30;
/// A limit in bytes, above the size of any `extensions.yaml`.
const MANIFEST_LIMIT: u64 = 1 << 20;
/// A limit above the layer count of any image.
const LAYERS_LIMIT: usize = 256;

/// The contents of an initramfs.
#[derive(Clone, Debug)]
pub struct Initramfs {
    pub compression: Compression,
    /// File size in bytes.
    pub packed: u64,
    /// Digest of the file.
    pub digest: Digest,
    /// Unpacked size in bytes.
    pub unpacked: u64,
    /// The squashfs files.
    pub layers: Vec<InitramfsLayer>,
    /// The layer contents.
    pub contents: Contents,
}

/// A squashfs file in an initramfs.
#[derive(Clone, Debug, Serialize)]
pub struct InitramfsLayer {
    /// The name, e.g. `rootfs.sqsh`.
    pub name: String,
    pub bytes: u64,
    /// The digest of the content.
    pub digest: Digest,
    /// The content, for further readers.
    #[serde(skip)]
    pub file: LayerFile,
}

impl InitramfsLayer {
    /// Opens the layer.
    ///
    /// # Errors
    /// See [`Squashfs::open`].
    pub fn open(&self) -> Result<Squashfs<LayerFile>, SquashfsError> {
        Squashfs::open(self.file.clone())
    }

    /// Reports whether both layers have the same files, apart from their times. Reads the files only if the digests
    /// of the layers differ.
    pub fn has_same_files(&self, other: &Self) -> bool {
        let files = |layer: &Self| layer.open().and_then(|mut squashfs| squashfs.tree_digest()).ok();
        self.digest == other.digest || files(self).is_some_and(|mine| Some(mine) == files(other))
    }
}

/// The reason an initramfs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// The archive is damaged.
    #[error("{place}: {source}")]
    Archive {
        /// The stream of the file to which the offset refers.
        place: String,
        source: ArchiveError,
    },
    /// The list of extensions is damaged.
    #[error(transparent)]
    Extensions(#[from] ExtensionsError),
    /// A layer is damaged.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The list of extensions names a missing layer.
    #[error("extensions.yaml names {layer:?} for {extension:?}, and there is no such file")]
    LayerMissing {
        /// The layer name.
        layer: String,
        extension: String,
    },
    /// The file could not be read completely.
    #[error(transparent)]
    Read(#[from] io::Error),
}

impl Initramfs {
    /// Reads `file` completely. Writes all layers to one temporary file.
    ///
    /// # Errors
    /// See [`InitramfsError`].
    pub fn read(file: impl Read) -> Result<Self, InitramfsError> {
        let mut file = Hashed::new(file);
        let mut content = InitramfsContent::default();
        let (compression, unpacked) = content.take_archives(&mut file)?;
        // Padding may follow the last archive. It is part of the digest.
        io::copy(&mut file, &mut io::sink())?;
        let packed = file.count();
        let unpacked = unpacked.unwrap_or(packed);
        let extensions = Extension::parse(&content.manifest)?;
        let missing = |e: &&Extension| !content.layers.iter().any(|layer| layer.name == e.layer);
        if let Some(Extension { layer, name, .. }) = extensions.iter().find(missing) {
            return Err(InitramfsError::LayerMissing { layer: layer.clone(), extension: name.clone() });
        }
        let found = content.found.into_iter().collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            compression,
            packed,
            digest: file.digest()?,
            unpacked,
            layers: content.layers,
            contents: Contents::of(&extensions, &found),
        })
    }
}

/// The contents collected from the archives.
struct InitramfsContent {
    /// The temporary file with all layers, and its length.
    spool: Option<(Arc<File>, u64)>,
    layers: Vec<InitramfsLayer>,
    /// The layer contents. The reader reports a damaged layer only after it has verified the archive,
    /// because a damaged archive is the more precise cause.
    found: Vec<Result<LayerContents, ContentsError>>,
    manifest: Vec<u8>,
}

impl Default for InitramfsContent {
    fn default() -> Self {
        // An image without the file has no extensions.
        Self { spool: None, layers: Vec::new(), found: Vec::new(), manifest: b"layers: []".to_vec() }
    }
}

impl InitramfsContent {
    /// Reads all archives. Returns the compression and the unpacked size of compressed archives.
    fn take_archives(&mut self, file: impl Read) -> Result<(Compression, Option<u64>), InitramfsError> {
        let fail = |place: &str| {
            let place = place.to_owned();
            move |source| InitramfsError::Archive { place, source }
        };
        // An uncompressed archive, for example with early modules, may precede a compressed archive.
        let mut archives = Archives::new(BufReader::with_capacity(1 << 20, file), UNPACKED_LIMIT);
        loop {
            let head = archives.peek().map_err(fail("in the file"))?;
            match (Compression::detect(head), head.is_empty()) {
                (_, true) => return Ok((Compression::Uncompressed, None)),
                (Compression::Uncompressed, _) => {
                    archives.read(|entry, data| self.take(entry, data)).map_err(fail("in the file"))?;
                }
                (compressed, _) => {
                    let place = format!("in the {compressed:?} stream at byte {}", archives.offset());
                    let stream = unpacked(compressed, archives.into_input())
                        .map_err(|source| fail(&place)(ArchiveError::Read { offset: 0, source }))?;
                    let mut inner = Archives::new(BufReader::with_capacity(1 << 20, stream), UNPACKED_LIMIT);
                    while !inner.peek().map_err(fail(&place))?.is_empty() {
                        inner.read(|entry, data| self.take(entry, data)).map_err(fail(&place))?;
                    }
                    return Ok((compressed, Some(inner.offset())));
                }
            }
        }
    }

    fn take(&mut self, entry: &ArchiveEntry, data: &mut dyn Read) -> io::Result<()> {
        let refused = |problem: String| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        if entry.name == "extensions.yaml" {
            if entry.size > MANIFEST_LIMIT {
                return refused(format!("extensions.yaml says it has {} bytes", entry.size));
            }
            self.manifest.clear();
            data.read_to_end(&mut self.manifest)?;
        } else if !entry.name.contains('/') && entry.name.ends_with(".sqsh") {
            if self.layers.iter().any(|layer| layer.name == entry.name) {
                return refused(format!("there are two files named {}", entry.name));
            }
            if self.layers.len() >= LAYERS_LIMIT {
                return refused(format!("there are more than {LAYERS_LIMIT} layers"));
            }
            // The squashfs reader requires seeking, which the stream does not support.
            let (spool, offset) = match self.spool.take() {
                Some(spool) => spool,
                None => (Arc::new(tempfile::tempfile()?), 0),
            };
            let mut out = io::BufWriter::with_capacity(1 << 20, &*spool);
            let mut data = Hashed::new(data);
            let length = io::copy(&mut data, &mut out)?;
            io::Write::flush(&mut out)?;
            drop(out);
            let digest = data.digest()?;
            let file = LayerFile::new(spool.clone(), offset, length);
            self.spool = Some((spool, offset + length));
            self.found.push(LayerContents::read(&entry.name, file.clone()));
            self.layers.push(InitramfsLayer { name: entry.name.clone(), bytes: entry.size, digest, file });
        }
        Ok(())
    }
}
