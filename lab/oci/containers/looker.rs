//! Reads container images: from registries, as streams, and from image layouts and archives.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};
use lab_image::{Compression, Hashed, unpacked};
use lab_model::{Digest, Source};
use tokio::sync::{Mutex, Semaphore};

use super::{
    bridge::{BUFFER, BlockingReader},
    fact_cache::FactCache,
    image::ContainerImage,
    layer_facts::LayerFacts,
};
use crate::images::{Image, ImageFiles, ImageLayer, OciError, Proof, Remote};

/// The facts of this form.
const KIND: &str = "layers-1";
/// How many layers are read at once.
const AT_ONCE: usize = 4;

/// Why an image could not be looked at.
pub type LookerError = OciError;

/// Reads container images, and keeps what it found in their layers. Clones share the bound of parallel reads.
#[derive(Clone)]
pub struct Looker {
    /// The directory of the caches.
    directory: PathBuf,
    facts: FactCache,
    room: Arc<Semaphore>,
    /// The layers that were or are looked at.
    flights: Arc<Mutex<HashMap<Digest, Arc<Mutex<()>>>>>,
}

/// An image whose layers are not read yet.
struct Opened {
    image: Image,
    digest: Digest,
    platforms: Vec<String>,
    /// The registry, or `None` if the files have all layers.
    remote: Option<Arc<Remote>>,
    files: Arc<ImageFiles>,
}

impl Looker {
    /// Creates a reader with the cache of fetched images in `directory`.
    pub fn new(directory: &Path) -> Self {
        let facts = FactCache::new(&directory.join("facts"), KIND);
        Self {
            directory: directory.to_owned(),
            facts,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            flights: Arc::default(),
        }
    }

    /// The directory of manifests and configs.
    pub fn manifests(&self) -> PathBuf {
        self.directory.join("oci")
    }

    /// Reads the arm64 image of a source.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched, is damaged, or is not for arm64.
    pub fn look<'a>(&'a self, source: &'a Source) -> BoxFuture<'a, Result<ContainerImage, LookerError>> {
        self.look_at(source).boxed()
    }

    async fn look_at(&self, source: &Source) -> Result<ContainerImage, OciError> {
        let Opened { image, digest, platforms, remote, files } = self.open(source).await?;
        let is_image = ContainerImage::is_image(&ContainerImage::without_layers(&image, &digest));
        let layers = if is_image { &image.layers[..] } else { &[] };
        let looks = layers.iter().map(|layer| self.layer(layer, remote.clone(), files.clone()));
        let looks = futures::future::try_join_all(looks).await?;
        let mut looked = ContainerImage::without_layers(&image, &digest);
        looked.platforms = platforms;
        looked.bytes = image.layers.iter().filter_map(|layer| layer.size).sum();
        looked.read = looks.iter().map(|(_, read)| read).sum();
        looked.layers = looks.into_iter().map(|(facts, _)| facts).collect();
        Ok(looked)
    }

    async fn open(&self, source: &Source) -> Result<Opened, OciError> {
        match source {
            Source::Registry(reference) => {
                let remote = Remote::new(reference, self.manifests())?;
                let digest = remote.top().await?;
                let image = remote.image(&digest).await?;
                let platforms = remote.entries(&digest)?.iter().filter_map(platform_of).collect();
                let files = Arc::new(remote.files());
                Ok(Opened { image, digest, platforms, remote: Some(Arc::new(remote)), files })
            }
            Source::Path(path) => {
                let (path, scratch) = (path.clone(), self.directory.clone());
                let opened = tokio::task::spawn_blocking(move || Image::open(&path, &scratch)).await;
                let (image, files) =
                    opened.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
                let digest = image.digest.clone();
                Ok(Opened { image, digest, platforms: Vec::new(), remote: None, files: Arc::new(files) })
            }
        }
    }

    /// Returns what is in a layer, and how many bytes were read for it.
    async fn layer(
        &self,
        layer: &ImageLayer,
        remote: Option<Arc<Remote>>,
        files: Arc<ImageFiles>,
    ) -> Result<(Arc<LayerFacts>, u64), OciError> {
        let (Proof::Packed(key) | Proof::Unpacked(key)) = &layer.proof;
        let key = key.clone();
        // Images share layers: who comes second waits for the facts of the first.
        let flight = self.flights.lock().await.entry(key.clone()).or_default().clone();
        let _alone = flight.lock().await;
        // The semaphore is never closed.
        let _room = self.room.acquire().await;
        let (cache, wanted) = (self.facts.clone(), key.clone());
        let known = tokio::task::spawn_blocking(move || cache.get::<LayerFacts>(&wanted)).await;
        if let Ok(Some(facts)) = known {
            return Ok((Arc::new(facts), 0));
        }
        let (facts, read) = match (remote, &layer.proof) {
            (Some(remote), Proof::Packed(digest)) if !files.has(&layer.name) => {
                streamed(&remote, digest, layer.size).await?
            }
            _ => {
                let layer = layer.clone();
                let read = tokio::task::spawn_blocking(move || of_file(&layer, &files)).await;
                read.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?
            }
        };
        // Without a cache, the next look reads the layer again.
        let _ = self.facts.put(&key, &facts);
        Ok((Arc::new(facts), read))
    }

    /// Deletes the oldest facts if there are too many.
    ///
    /// # Errors
    /// Returns an error if the cache cannot be read.
    pub fn prune(&self) -> io::Result<()> {
        self.facts.prune()
    }
}

impl ContainerImage {
    fn without_layers(image: &Image, digest: &Digest) -> Self {
        Self {
            digest: digest.clone(),
            image: image.digest.clone(),
            platforms: Vec::new(),
            created: image.created.clone(),
            architecture: image.architecture.clone(),
            os: image.os.clone(),
            config_type: image.config_type.clone(),
            command: image.command.clone(),
            layers: Vec::new(),
            bytes: 0,
            read: 0,
        }
    }
}

/// The platform of an entry of an index. Attestations name none.
fn platform_of(entry: &crate::images::Descriptor) -> Option<String> {
    let platform = entry.platform.as_ref()?;
    let (os, architecture) = (platform["os"].as_str()?, platform["architecture"].as_str()?);
    (os != "unknown").then(|| format!("{os}/{architecture}"))
}

/// Reads a layer while it arrives.
async fn streamed(
    remote: &Arc<Remote>,
    digest: &Digest,
    size: Option<u64>,
) -> Result<(LayerFacts, u64), OciError> {
    let (mut out, input) = tokio::io::duplex(BUFFER);
    let mut input = BlockingReader::new(input);
    let reader = tokio::task::spawn_blocking(move || {
        let facts = facts_of(&mut input);
        // The rest of the stream belongs to the digest.
        let drained = io::copy(&mut input, &mut io::sink());
        (facts, drained, input.count)
    });
    let sent = remote.stream(digest, size, &mut out).await;
    drop(out);
    let (facts, drained, count) =
        reader.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    // A broken transfer also breaks the reader, and is the cause.
    sent?;
    let damaged = |error: io::Error| OciError::Damaged {
        within: remote.reference().whole(),
        part: format!("layer {digest}"),
        why: error.to_string(),
    };
    drained.map_err(damaged)?;
    Ok((facts.map_err(damaged)?, count))
}

/// Reads a layer from an image layout or archive.
fn of_file(layer: &ImageLayer, files: &ImageFiles) -> Result<(LayerFacts, u64), OciError> {
    let damaged = |error: io::Error| files.damaged(&layer.name, error);
    let input = files.open(&layer.name)?;
    let (facts, found, promised, count) = match &layer.proof {
        Proof::Packed(promised) => {
            let mut input = Hashed::new(input);
            let facts = facts_of(&mut input).map_err(damaged)?;
            io::copy(&mut input, &mut io::sink()).map_err(damaged)?;
            let count = input.count();
            (facts, input.digest().map_err(damaged)?, promised, count)
        }
        Proof::Unpacked(promised) => {
            let mut packed = BufReader::new(input);
            let compression = Compression::detect(packed.fill_buf().map_err(damaged)?);
            let mut tar = Hashed::new(unpacked(compression, packed).map_err(damaged)?);
            let facts = LayerFacts::read(&mut tar).map_err(damaged)?;
            io::copy(&mut tar, &mut io::sink()).map_err(damaged)?;
            let count = tar.count();
            (facts, tar.digest().map_err(damaged)?, promised, count)
        }
    };
    if found != *promised {
        let why = format!("its content has {found}, expected {promised}; fetch the image again");
        return Err(files.damaged(&layer.name, why));
    }
    Ok((facts, count))
}

fn facts_of(input: impl Read) -> io::Result<LayerFacts> {
    let mut packed = BufReader::with_capacity(64 << 10, input);
    let compression = Compression::detect(packed.fill_buf()?);
    LayerFacts::read(unpacked(compression, packed)?)
}
