//! The OCI image layout (OCI image specification v1.1, image-layout.md): a directory with content-addressed
//! blobs and an index of images. Only this module reads and writes layouts: workload images, the cache of
//! fetched images, mirrors, and the content that the registry serves.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use lab_model::{Digest, files::read_bounded};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The annotation with the image name in a layout (OCI image specification v1.1, annotations). Layouts of
/// the lab use full references such as `registry.k8s.io/pause:3.10`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Media type of an index.
pub const INDEX_TYPE: &str = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
/// Media type of an image manifest.
pub const MANIFEST_TYPE: &str = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
/// Media type of the config of an image.
pub const CONFIG_TYPE: &str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
/// Media type of a layer that is not compressed.
pub const LAYER_TYPE: &str = oci_client::manifest::IMAGE_LAYER_MEDIA_TYPE;

/// The largest index that is read, in bytes: a mirror with ten thousand images.
const LARGEST_INDEX: u64 = 4 << 20;

/// The index file of a layout.
pub(super) const INDEX: &str = "index.json";
/// The blob directory of a layout.
pub(super) const BLOBS: &str = "blobs/sha256/";

/// Returns the file name of a blob in a layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

/// Parses the digest of a blob from its file name.
pub(super) fn blob_digest(name: &str) -> Option<Digest> {
    Digest::parse(&format!("sha256:{}", name.strip_prefix(BLOBS)?))
}

/// A content descriptor in a layout or manifest (OCI image specification, descriptor).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The digest, unparsed.
    pub digest: String,
    /// The size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The platform of an image: architecture and operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Value>,
    /// The annotations, including the image name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// All other fields, unmodified.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// Creates a descriptor for content.
    pub fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        Self {
            media_type: Some(media_type.to_owned()),
            digest: digest.to_string(),
            size: Some(size),
            platform: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// Sets the image name.
    #[must_use]
    pub fn named(mut self, reference: impl Into<String>) -> Self {
        self.annotations.insert(REF_NAME.to_owned(), reference.into());
        self
    }

    /// Sets the platform to Linux on the given architecture.
    #[must_use]
    pub fn for_architecture(mut self, architecture: &str) -> Self {
        self.platform = Some(json!({ "architecture": architecture, "os": "linux" }));
        self
    }

    /// Returns the image name.
    pub fn name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }

    /// Returns the digest if the lab supports its algorithm.
    pub fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.digest)
    }
}

/// Creates an index of these descriptors.
pub fn index_of(manifests: &impl Serialize) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests })
}

/// The parsed part of an index.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// The reason a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The attempted operation.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The index is not valid JSON for an image index.
    #[error("{} is not an OCI image index: {source}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// The position and cause of the JSON error.
        source: serde_json::Error,
    },
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LayoutError + use<'a> {
    move |source| LayoutError::File { action, path: path.to_owned(), source }
}

/// An image layout in a directory. The first write creates the directory. Runs can share a layout: each
/// file appears atomically by rename.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// Creates a layout for a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reports whether the directory is a layout.
    pub fn exists(&self) -> bool {
        self.directory.join(INDEX).is_file() && self.directory.join("blobs").is_dir()
    }

    /// Returns the file path of a blob, which may not exist.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join(blob_name(digest))
    }

    /// Reports whether the layout has a blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// Returns the images in the index.
    ///
    /// # Errors
    /// Returns an error if the index is missing or malformed.
    pub fn images(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let path = self.directory.join(INDEX);
        let text = read_bounded(&path, LARGEST_INDEX).map_err(file("read", &path))?;
        let index: Index =
            serde_json::from_slice(&text).map_err(|source| LayoutError::Index { path, source })?;
        Ok(index.manifests)
    }

    /// Returns the images in the index, or an empty list if there is no index yet.
    ///
    /// # Errors
    /// Returns an error if the index cannot be read or is malformed.
    pub fn images_so_far(&self) -> Result<Vec<Descriptor>, LayoutError> {
        match self.images() {
            Err(LayoutError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            images => images,
        }
    }

    /// Adds content as a blob.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be written.
    pub fn put_blob(&self, content: &[u8]) -> Result<Digest, LayoutError> {
        let digest = Digest::of_bytes(content);
        let mut partial = self.begin()?;
        partial.write_all(content).map_err(file("write", &self.blob(&digest)))?;
        self.keep(partial, &digest)?;
        Ok(digest)
    }

    /// Adds content as a blob and returns its descriptor.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be written.
    pub fn put(&self, media_type: &str, content: &[u8]) -> Result<Descriptor, LayoutError> {
        let digest = self.put_blob(content)?;
        Ok(Descriptor::new(media_type, &digest, content.len() as u64))
    }

    /// Adds an image with these layers: its config and its manifest. Returns the descriptor of the
    /// manifest.
    ///
    /// # Errors
    /// Returns an error if a blob cannot be written.
    pub fn put_image(&self, config: &Value, layers: &[Descriptor]) -> Result<Descriptor, LayoutError> {
        let config = self.put(CONFIG_TYPE, config.to_string().as_bytes())?;
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers });
        self.put(MANIFEST_TYPE, manifest.to_string().as_bytes())
    }

    /// Creates a temporary file for a streamed blob. Dropping it deletes the file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be created.
    pub fn begin(&self) -> Result<tempfile::NamedTempFile, LayoutError> {
        let blobs = self.directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(file("create", &blobs))?;
        partial_in(&blobs).map_err(file("write in", &blobs))
    }

    /// Stores a file as the blob `digest`. The caller must have verified the digest.
    ///
    /// # Errors
    /// Returns an error if the file cannot be renamed.
    pub fn keep(&self, partial: tempfile::NamedTempFile, digest: &Digest) -> Result<(), LayoutError> {
        let path = self.blob(digest);
        partial.persist(&path).map(drop).map_err(|error| file("write", &path)(error.error))
    }

    /// Deletes a blob, if it exists.
    ///
    /// # Errors
    /// Returns an error if the blob exists and cannot be deleted.
    pub fn forget(&self, digest: &Digest) -> Result<(), LayoutError> {
        let path = self.blob(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("delete", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Adds a complete image to the index, and replaces any image with the same name. Concurrent writers
    /// need a lock.
    ///
    /// # Errors
    /// Returns an error if the index is malformed or cannot be written.
    pub fn list(&self, image: Descriptor) -> Result<(), LayoutError> {
        let mut images = self.images_so_far()?;
        images.retain(|other| other.name().is_none() || other.name() != image.name());
        images.push(image);
        self.write_index(&images)
    }

    /// Writes the index of all images. Write it last, because it marks the directory as a layout.
    ///
    /// # Errors
    /// Returns an error if the index cannot be written.
    pub fn write_index(&self, images: &[Descriptor]) -> Result<(), LayoutError> {
        fs::create_dir_all(&self.directory).map_err(file("create", &self.directory))?;
        let mark = json!({ "imageLayoutVersion": "1.0.0" });
        for (name, content) in [(INDEX, index_of(&images)), ("oci-layout", mark)] {
            let path = self.directory.join(name);
            let write = || {
                let mut partial = partial_in(&self.directory)?;
                partial.write_all(content.to_string().as_bytes())?;
                partial.persist(&path).map(drop).map_err(|error| error.error)
            };
            write().map_err(file("write", &path))?;
        }
        Ok(())
    }
}

/// Creates a temporary file for a later rename, with default file permissions, because other programs also
/// read layouts.
fn partial_in(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".partial-").make_in(directory, |path| File::create_new(path))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
