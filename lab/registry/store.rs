//! Image content by reference and digest, read from OCI image layouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The annotation that names an image in a layout's index (OCI image specification v1.1,
/// annotations); here always a full reference such as `registry.k8s.io/pause:3.10`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What the registry can serve: manifests by reference, blobs by digest.
#[derive(Clone, Debug, Default)]
pub struct Store {
    manifests: BTreeMap<String, Descriptor>,
    layouts: Vec<PathBuf>,
}

/// Where content lies and what it is (OCI image specification, descriptor).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Descriptor {
    /// Media type, sent as `Content-Type`.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct MediaType {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

/// Why image content cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the layout that could not be read.
    #[error("read {}: {source} (the workload images are built with: make images)", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An index that is not the JSON it should be.
    #[error("{} is not an OCI image index: {source}", path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

impl Store {
    /// Opens OCI image layout directories; a reference in a later one replaces the same
    /// reference of an earlier one.
    ///
    /// # Errors
    /// When a layout's index is missing or malformed.
    pub fn open(layouts: &[PathBuf]) -> Result<Self, StoreError> {
        let mut manifests = BTreeMap::new();
        for layout in layouts {
            let path = layout.join("index.json");
            let text = fs::read(&path).map_err(|source| StoreError::Read { path: path.clone(), source })?;
            let index: Index =
                serde_json::from_slice(&text).map_err(|source| StoreError::Index { path, source })?;
            for descriptor in index.manifests {
                if let Some(reference) = descriptor.annotations.get(REF_NAME) {
                    manifests.insert(reference.clone(), descriptor);
                }
            }
        }
        Ok(Self { manifests, layouts: layouts.to_vec() })
    }

    /// The full references of all images.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.manifests.keys().map(String::as_str)
    }

    /// The registry hosts that images are named after, e.g. `registry.k8s.io`.
    pub fn upstreams(&self) -> BTreeSet<&str> {
        self.references().filter_map(|reference| reference.split_once('/')).map(|(host, _)| host).collect()
    }

    /// The manifest that `reference` (a tag or a digest) names in `repository` of `upstream`.
    pub fn manifest(&self, upstream: &str, repository: &str, reference: &str) -> Option<Descriptor> {
        if let Some(path) = self.blob(reference) {
            let text = fs::read(path).ok()?;
            let media_type = serde_json::from_slice::<MediaType>(&text).ok()?.media_type?;
            return Some(Descriptor { media_type, digest: reference.into(), annotations: BTreeMap::new() });
        }
        self.manifests.get(&format!("{upstream}/{repository}:{reference}")).cloned()
    }

    /// The file that holds the content of `digest`; anything but `sha256:` and 64 lower-case
    /// hexadecimal digits names no file, so a request cannot leave the layouts.
    pub fn blob(&self, digest: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        self.layouts.iter().map(|layout| blob_path(layout, hex)).find(|path| path.is_file())
    }
}

fn blob_path(layout: &Path, hex: &str) -> PathBuf {
    layout.join("blobs/sha256").join(hex)
}
