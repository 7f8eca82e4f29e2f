//! The OCI image layout (OCI image specification v1.1, image-layout.md): a directory with content by digest
//! and an index of images. The lab writes and reads layouts here and nowhere else: the workload images, the
//! cache of fetched images, mirrors, and what the registry serves.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use lab_model::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The annotation that names an image of a layout (OCI image specification v1.1, annotations); in layouts of
/// the lab a full reference such as `registry.k8s.io/pause:3.10`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Media type of an index.
pub const INDEX_TYPE: &str = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
/// Media type of an image manifest.
pub const MANIFEST_TYPE: &str = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;
/// Media type of the config of an image.
pub const CONFIG_TYPE: &str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
/// Media type of a layer that is not compressed.
pub const LAYER_TYPE: &str = oci_client::manifest::IMAGE_LAYER_MEDIA_TYPE;

/// The file with the index of a layout.
pub(super) const INDEX: &str = "index.json";
/// The directory with the blobs of a layout.
pub(super) const BLOBS: &str = "blobs/sha256/";

/// The name of a blob's file in a layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

/// The digest of a blob by the name of its file.
pub(super) fn blob_digest(name: &str) -> Option<Digest> {
    Digest::parse(&format!("sha256:{}", name.strip_prefix(BLOBS)?))
}

/// What a layout or a manifest says of a content (OCI image specification, descriptor).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its digest, as it is written.
    pub digest: String,
    /// Its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What an image is for: architecture and operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Value>,
    /// Annotations, among them the name of an image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything else, kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Descriptor {
    /// Describes a content.
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

    /// The same with the name of an image.
    #[must_use]
    pub fn named(mut self, reference: impl Into<String>) -> Self {
        self.annotations.insert(REF_NAME.to_owned(), reference.into());
        self
    }

    /// The same for Linux on an architecture.
    #[must_use]
    pub fn for_architecture(mut self, architecture: &str) -> Self {
        self.platform = Some(json!({ "architecture": architecture, "os": "linux" }));
        self
    }

    /// The name of an image.
    pub fn name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }

    /// The digest, when it is of the kind that the lab knows.
    pub fn digest(&self) -> Option<Digest> {
        Digest::parse(&self.digest)
    }
}

/// An index of these descriptors.
pub fn index_of(manifests: &impl Serialize) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests })
}

/// What is read of an index.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// Why a layout cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file or directory.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An index that is not the JSON it should be.
    #[error("{} is not an OCI image index: {source}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LayoutError + use<'a> {
    move |source| LayoutError::File { action, path: path.to_owned(), source }
}

/// An image layout in a directory, which is made when first needed. It is safe to share between runs: a file
/// appears whole by rename or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// The layout in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the directory is a layout.
    pub fn exists(&self) -> bool {
        self.directory.join(INDEX).is_file() && self.directory.join("blobs").is_dir()
    }

    /// The file of a blob, which need not be there.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join(blob_name(digest))
    }

    /// Whether the layout has a blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    /// The images that the index lists.
    ///
    /// # Errors
    /// When the index is missing or malformed.
    pub fn images(&self) -> Result<Vec<Descriptor>, LayoutError> {
        let path = self.directory.join(INDEX);
        let text = fs::read(&path).map_err(file("read", &path))?;
        let index: Index =
            serde_json::from_slice(&text).map_err(|source| LayoutError::Index { path, source })?;
        Ok(index.manifests)
    }

    /// The images that the index lists; none when there is no index yet.
    ///
    /// # Errors
    /// When the index cannot be read, or is malformed.
    pub fn images_so_far(&self) -> Result<Vec<Descriptor>, LayoutError> {
        match self.images() {
            Err(LayoutError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Vec::new())
            }
            images => images,
        }
    }

    /// Adds a content as a blob.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_blob(&self, content: &[u8]) -> Result<Digest, LayoutError> {
        let digest = Digest::of_bytes(content);
        let mut partial = self.begin()?;
        partial.write_all(content).map_err(file("write", &self.blob(&digest)))?;
        self.keep(partial, &digest)?;
        Ok(digest)
    }

    /// Adds a content as a blob, and describes it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, media_type: &str, content: &[u8]) -> Result<Descriptor, LayoutError> {
        let digest = self.put_blob(content)?;
        Ok(Descriptor::new(media_type, &digest, content.len() as u64))
    }

    /// Adds an image of these layers: its config and its manifest, which the descriptor is of.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_image(&self, config: &Value, layers: &[Descriptor]) -> Result<Descriptor, LayoutError> {
        let config = self.put(CONFIG_TYPE, config.to_string().as_bytes())?;
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers });
        self.put(MANIFEST_TYPE, manifest.to_string().as_bytes())
    }

    /// A file for a blob whose content comes bit by bit; gone when it is dropped.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(&self) -> Result<tempfile::NamedTempFile, LayoutError> {
        let blobs = self.directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(file("create", &blobs))?;
        partial_in(&blobs).map_err(file("write in", &blobs))
    }

    /// Keeps a file as the blob `digest`, which it has been proven to be.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn keep(&self, partial: tempfile::NamedTempFile, digest: &Digest) -> Result<(), LayoutError> {
        let path = self.blob(digest);
        partial.persist(&path).map(drop).map_err(|error| file("write", &path)(error.error))
    }

    /// Deletes a blob, if it is there.
    ///
    /// # Errors
    /// When it is there and cannot be deleted.
    pub fn forget(&self, digest: &Digest) -> Result<(), LayoutError> {
        let path = self.blob(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("delete", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Lists an image, all of whose parts are there, in place of one of the same name. Two writers at the same
    /// time need a lock.
    ///
    /// # Errors
    /// When the index is malformed or cannot be written.
    pub fn list(&self, image: Descriptor) -> Result<(), LayoutError> {
        let mut images = self.images_so_far()?;
        images.retain(|other| other.name().is_none() || other.name() != image.name());
        images.push(image);
        self.write_index(&images)
    }

    /// Writes the index of all images, last: it makes the directory a layout.
    ///
    /// # Errors
    /// When it cannot be written.
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

/// A file that becomes another by rename, with the permissions of any file: other programs read layouts, too.
fn partial_in(directory: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".partial-").make_in(directory, |path| File::create_new(path))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
