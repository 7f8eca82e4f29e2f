//! Images fetched into a mirror: an OCI image layout that the lab's registry serves to nodes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use futures::{FutureExt, future::BoxFuture};
use lab_model::{
    Digest,
    files::{FileLock, replace_file},
};
use oci_client::Reference;
use serde_json::{Value, json};

use super::{
    cache::Cache,
    content::Content,
    error::OciError,
    image::{REF_NAME, blob},
    registry::fetch,
};

/// A mirror's directory.
#[derive(Clone, Debug)]
pub struct Mirror {
    directory: PathBuf,
}

impl Mirror {
    /// The mirror in `directory`, which is made when first needed.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Fetches the arm64 image of a reference with all its parts, and lists it under that name.
    ///
    /// # Errors
    /// When it cannot be had, or the mirror cannot be written.
    pub fn pull<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Digest, OciError>> {
        self.pulled(reference).boxed()
    }

    async fn pulled(&self, reference: &Reference) -> Result<Digest, OciError> {
        let fetched = fetch(reference, &self.cache()).await?;
        self.list(reference, &fetched.digest)?;
        Ok(fetched.digest)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn cache(&self) -> Cache {
        Cache::new(self.directory.clone())
    }

    /// Lists an image, all of whose parts are there, under the name of `reference`.
    pub(super) fn list(&self, reference: &Reference, digest: &Digest) -> Result<(), OciError> {
        let name = blob(digest);
        let manifest: Value = Content::directory(&self.directory).json(&name, Some(digest))?;
        let path = self.directory.join(&name);
        let size = fs::metadata(&path).map_err(OciError::file("read", &path))?.len();
        // A manifest of Docker's always says its type; the specification lets others leave it out.
        let fallback = if manifest.get("manifests").is_some() { INDEX } else { MANIFEST };
        let entry = json!({
            "mediaType": manifest["mediaType"].as_str().unwrap_or(fallback),
            "digest": digest.to_string(),
            "size": size,
            "annotations": { (REF_NAME): reference.whole() },
        });
        // Another run may list something at the same time.
        let lock = self.directory.join(".lock");
        let _held = FileLock::acquire(&lock).map_err(OciError::file("lock", &lock))?;
        self.enter(&reference.whole(), entry)
    }

    fn enter(&self, name: &str, entry: Value) -> Result<(), OciError> {
        let path = self.directory.join("index.json");
        let mut entries = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(OciError::file("read", &path)(error)),
            Ok(text) => {
                let index: Value = serde_json::from_slice(&text).map_err(|error| OciError::Damaged {
                    within: self.directory.display().to_string(),
                    part: "index.json".into(),
                    why: error.to_string(),
                })?;
                index["manifests"].as_array().cloned().unwrap_or_default()
            }
        };
        entries.retain(|entry| entry["annotations"][REF_NAME] != name);
        entries.push(entry);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        let layout = json!({ "imageLayoutVersion": "1.0.0" });
        for (name, content) in [("index.json", index), ("oci-layout", layout)] {
            let path = self.directory.join(name);
            replace_file(&path, content.to_string().as_bytes()).map_err(OciError::file("write", &path))?;
        }
        Ok(())
    }
}

const INDEX: &str = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
const MANIFEST: &str = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
