//! One reference in a registry, read piece by piece: manifests, configs and what refers to them, and layers as a stream.

use std::path::PathBuf;

use lab_model::Digest;
use oci_client::Reference;
use serde::Deserialize;
use tokio::io::AsyncWrite;

use super::{
    cache::FetchCache,
    content::{ImageFiles, TEXT_LIMIT},
    error::OciError,
    exchange::ExchangeError,
    image::Image,
    layout::Descriptor,
    registry::{Access, Part, RegistryClient},
};

/// A reference in its registry, asked with the credentials of the user. Manifests and configs are kept in a cache.
pub struct Remote {
    reference: Reference,
    client: RegistryClient,
    cache: FetchCache,
}

/// The parsed part of an index.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

impl Remote {
    /// Creates a client that keeps manifests and configs in an image layout in `directory`. Does not connect.
    ///
    /// # Errors
    /// Returns an error if the credentials of the user cannot be read.
    pub fn new(reference: &Reference, directory: impl Into<PathBuf>) -> Result<Self, OciError> {
        let cache = FetchCache::new(directory);
        let client = RegistryClient::new(reference, &cache, Access::OfTheUser)?;
        Ok(Self { reference: reference.clone(), client, cache })
    }

    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the digest of the manifest or index. Asks the registry for a tag, and for a digest that is not in the
    /// cache.
    ///
    /// # Errors
    /// Returns an error if the registry does not have it or cannot be asked.
    pub async fn top(&self) -> Result<Digest, OciError> {
        match self.reference.digest().and_then(Digest::parse) {
            Some(digest) if self.cache.layout.has(&digest) => Ok(digest),
            _ => self.client.top(&self.reference).await,
        }
    }

    /// Asks the registry for the digest of the manifest or index, although it may be in the cache.
    ///
    /// # Errors
    /// Returns an error if the registry does not have it or cannot be asked.
    pub async fn ask(&self) -> Result<Digest, OciError> {
        self.client.top(&self.reference).await
    }

    /// Returns the digest of another tag of the repository, or `None` if there is no such tag.
    ///
    /// # Errors
    /// Returns an error if the registry cannot be asked.
    pub async fn tag(&self, tag: &str) -> Result<Option<Digest>, OciError> {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let other = Reference::with_tag(registry.to_owned(), repository.to_owned(), tag.to_owned());
        match self.client.top(&other).await {
            Ok(digest) => Ok(Some(digest)),
            Err(OciError::NotInRegistry { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the arm64 image of a manifest or index, without its layers.
    ///
    /// # Errors
    /// Returns an error if it is not an image for arm64 or cannot be fetched.
    pub async fn image(&self, top: &Digest) -> Result<Image, OciError> {
        let manifest = self.client.image(&self.reference, top).await?;
        self.client.part(&self.reference, &Part::of(&self.reference, &manifest.config)?).await?;
        Image::of_digest(&self.files(), top)
    }

    /// Returns the entries of an index, or an empty list for an image.
    ///
    /// # Errors
    /// Returns an error if it is not in the cache or damaged.
    pub fn entries(&self, top: &Digest) -> Result<Vec<Descriptor>, OciError> {
        let index: Index = self.files().json(&super::layout::blob_name(top), Some(top))?;
        Ok(index.manifests)
    }

    /// Reads a manifest or blob of the repository as text.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched or has more than 4 MiB.
    pub async fn text(&self, part: &Descriptor) -> Result<Vec<u8>, OciError> {
        let why = |why: &str| OciError::Damaged {
            within: self.reference.whole(),
            part: part.digest.clone(),
            why: why.to_owned(),
        };
        let digest = part.digest().ok_or_else(|| why("it is not a sha256 digest"))?;
        if part.size.is_none_or(|size| size > TEXT_LIMIT) {
            return Err(why("it claims more than 4 MiB, or no size"));
        }
        self.client.part(&self.reference, &Part { digest: digest.clone(), size: part.size }).await?;
        self.files().text(&super::layout::blob_name(&digest), Some(&digest))
    }

    /// Returns the parts of a manifest: its layers, with their annotations.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched.
    pub async fn layers(&self, manifest: &Digest) -> Result<Vec<Descriptor>, OciError> {
        #[derive(Deserialize)]
        struct Manifest {
            #[serde(default)]
            layers: Vec<Descriptor>,
        }
        if !self.cache.layout.has(manifest) {
            self.client.top(&self.reference.clone_with_digest(manifest.to_string())).await?;
        }
        let manifest: Manifest = self.files().json(&super::layout::blob_name(manifest), Some(manifest))?;
        Ok(manifest.layers)
    }

    /// Returns the manifests that refer to a manifest. A registry without this list has none.
    ///
    /// # Errors
    /// Returns an error if the registry cannot be asked, or if its answer is not an index.
    pub async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, OciError> {
        match self.client.exchange.referrers(self.reference.repository(), digest).await {
            Ok(bytes) => {
                let index: Result<Index, _> = serde_json::from_slice(&bytes);
                Ok(index.map_err(|error| self.damaged("its list of referrers", &error))?.manifests)
            }
            Err(ExchangeError::Missing(_)) => Ok(Vec::new()),
            Err(error) => Err(self.client.failed(&self.reference, error)),
        }
    }

    /// Writes a blob to `out`, and verifies its digest.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched.
    pub async fn stream(
        &self,
        digest: &Digest,
        size: Option<u64>,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), OciError> {
        let streamed = self.client.exchange.blob(self.reference.repository(), digest, size, out).await;
        streamed.map_err(|error| match error {
            // The reader of the stream has ended, and knows why.
            ExchangeError::File(error) => self.damaged(&digest.to_string(), &error),
            error => self.client.failed(&self.reference, error),
        })
    }

    pub(crate) fn files(&self) -> ImageFiles {
        ImageFiles::directory(self.cache.layout.directory())
    }

    fn damaged(&self, part: &str, why: &impl ToString) -> OciError {
        OciError::Damaged { within: self.reference.whole(), part: part.to_owned(), why: why.to_string() }
    }
}
