//! An initramfs file, read once from its first to its last byte.
//!
//! It is one or more cpio archives, the last of them compressed as a rule. Of what is in them the
//! squashfs layers and the list of extensions are looked into.

use std::io::{self, BufReader, Read, Seek};

use lab_model::Digest;
use serde::Serialize;

use super::{
    archive::{ArchiveEntry, ArchiveError, Archives},
    compression::{Compression, unpacked},
    contents::{Contents, ContentsError, LayerContents},
    extensions::{Extension, ExtensionsError},
    hashed::Hashed,
};

/// More than any initramfs unpacks to, in bytes.
const UNPACKED_LIMIT: u64 = 2 << 30;
/// More than any `extensions.yaml` has, in bytes.
const MANIFEST_LIMIT: u64 = 1 << 20;
/// More layers than any image has.
const LAYERS_LIMIT: usize = 256;

/// What an initramfs holds.
#[derive(Clone, Debug)]
pub struct Initramfs {
    /// How it is compressed.
    pub compression: Compression,
    /// Bytes of the file.
    pub packed: u64,
    /// Digest of the file.
    pub digest: Digest,
    /// Bytes unpacked.
    pub unpacked: u64,
    /// Its squashfs files.
    pub layers: Vec<InitramfsLayer>,
    /// What they bring to a node.
    pub contents: Contents,
}

/// A squashfs file of an initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InitramfsLayer {
    /// Its name, e.g. `rootfs.sqsh`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its content's digest.
    pub digest: Digest,
}

/// Why an initramfs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// It is damaged.
    #[error("{place}: {source}")]
    Archive {
        /// Which stream of the file the offset counts in.
        place: String,
        /// What is wrong.
        source: ArchiveError,
    },
    /// Its list of extensions is damaged.
    #[error(transparent)]
    Extensions(#[from] ExtensionsError),
    /// A layer of it is damaged.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The list and the layers do not belong together.
    #[error("extensions.yaml names {layer:?} for {extension:?}, and there is no such file")]
    LayerMissing {
        /// Which layer.
        layer: String,
        /// Of which extension.
        extension: String,
    },
    /// It could not be read to its end.
    #[error(transparent)]
    Read(#[from] io::Error),
}

impl Initramfs {
    /// Reads `file` to its end. Layers are put down in temporary files, one after another.
    ///
    /// # Errors
    /// See [`InitramfsError`].
    pub fn read(file: impl Read) -> Result<Self, InitramfsError> {
        let mut file = Hashed::new(file);
        let mut content = InitramfsContent::default();
        let (compression, unpacked) = content.take_archives(&mut file)?;
        // Behind the last archive there may be padding, which belongs to the digest.
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

/// What is collected while archives are read.
struct InitramfsContent {
    layers: Vec<InitramfsLayer>,
    /// What is in them. A damaged layer is told of after the archive is known to be whole: a
    /// damaged archive is the better reason.
    found: Vec<Result<LayerContents, ContentsError>>,
    manifest: Vec<u8>,
}

impl Default for InitramfsContent {
    fn default() -> Self {
        // An image without the file has no extensions.
        Self { layers: Vec::new(), found: Vec::new(), manifest: b"layers: []".to_vec() }
    }
}

impl InitramfsContent {
    /// Reads all archives; returns how they are compressed, and their bytes unpacked when they are.
    fn take_archives(&mut self, file: impl Read) -> Result<(Compression, Option<u64>), InitramfsError> {
        let fail = |place: &str| {
            let place = place.to_owned();
            move |source| InitramfsError::Archive { place, source }
        };
        // An uncompressed archive (of early modules, say) may stand before a compressed one.
        let mut archives = Archives::new(BufReader::with_capacity(1 << 20, file), UNPACKED_LIMIT);
        loop {
            let head = archives.peek().map_err(fail("in the file"))?;
            match (Compression::detect(head), head.is_empty()) {
                (_, true) => return Ok((Compression::Uncompressed, None)),
                (Compression::Uncompressed, _) => {
                    archives.read(|entry, data| self.take(entry, data)).map_err(fail("in the file"))?;
                }
                (compressed, _) => {
                    let place = format!("in the {compressed:?} stream at byte {} of it", archives.offset());
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
            // A squashfs file is read by seeking, which the stream cannot.
            let mut spool = io::BufWriter::with_capacity(1 << 20, tempfile::tempfile()?);
            let mut data = Hashed::new(data);
            io::copy(&mut data, &mut spool)?;
            let digest = data.digest()?;
            let mut layer = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
            layer.rewind()?;
            self.found.push(LayerContents::read(&entry.name, layer));
            self.layers.push(InitramfsLayer { name: entry.name.clone(), bytes: entry.size, digest });
        }
        Ok(())
    }
}
