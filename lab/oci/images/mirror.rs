//! Fetches images into a mirror: an OCI image layout that the lab registry serves to nodes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures::{FutureExt, future::BoxFuture};
use lab_model::{Digest, files::FileLock};
use oci_client::Reference;
use serde_json::Value;

use super::{
    cache::FetchCache,
    content::ImageFiles,
    error::OciError,
    layout::{Descriptor, INDEX_TYPE, Layout, MANIFEST_TYPE, blob_name},
    registry::fetch,
};

#[derive(Clone, Debug)]
pub struct Mirror {
    layout: Layout,
}

impl Mirror {
    /// Creates a mirror in `directory`. The first use creates the directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { layout: Layout::new(directory) }
    }

    /// Fetches the arm64 image of a reference with all its parts, and adds it to the index under that name.
    ///
    /// # Errors
    /// Returns an error if the image cannot be fetched, or if the mirror cannot be written.
    pub fn pull<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Digest, OciError>> {
        self.pull_image(reference).boxed()
    }

    async fn pull_image(&self, reference: &Reference) -> Result<Digest, OciError> {
        let fetched = fetch(reference, &self.cache()).await?;
        self.list(reference, &fetched.digest)?;
        Ok(fetched.digest)
    }

    pub fn directory(&self) -> &Path {
        self.layout.directory()
    }

    pub(super) fn cache(&self) -> FetchCache {
        FetchCache { layout: self.layout.clone() }
    }

    /// Adds a complete image to the index under the name of `reference`.
    pub(super) fn list(&self, reference: &Reference, digest: &Digest) -> Result<(), OciError> {
        let manifest: Value =
            ImageFiles::directory(self.directory()).json(&blob_name(digest), Some(digest))?;
        let path = self.layout.blob(digest);
        let size = fs::metadata(&path).map_err(OciError::file("read", &path))?.len();
        // Docker manifests always contain their media type; the specification makes it optional.
        let fallback = if manifest.get("manifests").is_some() { INDEX_TYPE } else { MANIFEST_TYPE };
        let media_type = manifest["mediaType"].as_str().unwrap_or(fallback);
        let image = Descriptor::new(media_type, digest, size).named(reference.whole());
        // Another run may write the index at the same time.
        let lock = self.directory().join(".lock");
        let _held = FileLock::acquire(&lock).map_err(OciError::file("lock", &lock))?;
        Ok(self.layout.list(image)?)
    }
}
