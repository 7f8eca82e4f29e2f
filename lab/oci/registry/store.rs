//! Image content by reference and digest, from OCI image layouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use lab_model::Digest;

use crate::images::{Layout, LayoutError};

/// The content of the registry: manifests by reference, blobs by digest.
#[derive(Clone, Debug, Default)]
pub struct Store {
    named: BTreeMap<String, Digest>,
    listed: BTreeSet<Digest>,
    layouts: Vec<Layout>,
}

/// The reason image content cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A layout file cannot be read.
    #[error("read {}: {source} (the workload images come with a release archive of the lab, or are built with: make images)", path.display())]
    Read {
        /// The path of the file.
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
    /// The digest algorithm of an image in the index is not supported.
    #[error("{} lists \"{digest}\", which is not a sha256 digest; export the image again", path.display())]
    Digest {
        /// The index file.
        path: PathBuf,
        /// The unsupported digest.
        digest: String,
    },
}

impl From<LayoutError> for StoreError {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::File { path, source, .. } => Self::Read { path, source },
            LayoutError::Index { path, source } => Self::Index { path, source },
        }
    }
}

impl Store {
    /// Opens OCI image layout directories. A reference in a later layout replaces the same reference in an
    /// earlier layout.
    ///
    /// # Errors
    /// Returns an error if the index of a layout is missing or malformed.
    pub fn open(layouts: &[PathBuf]) -> Result<Self, StoreError> {
        let mut store = Self::default();
        for directory in layouts {
            let layout = Layout::new(directory);
            for image in layout.images()? {
                let Some(digest) = image.digest() else {
                    let path = directory.join("index.json");
                    return Err(StoreError::Digest { path, digest: image.digest });
                };
                if let Some(reference) = image.name() {
                    store.named.insert(reference.to_owned(), digest.clone());
                }
                store.listed.insert(digest);
            }
            store.layouts.push(layout);
        }
        Ok(store)
    }

    /// Adds a layout that other tasks fill during use. Does not read the current images in its index.
    ///
    /// Public for the fuzz targets alone.
    #[doc(hidden)]
    pub fn look_in(&mut self, layout: PathBuf) {
        let layout = Layout::new(layout);
        if !self.layouts.contains(&layout) {
            self.layouts.push(layout);
        }
    }

    /// Returns the full references of all images.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// Returns the registry hosts in the image names, e.g. `registry.k8s.io`.
    pub fn upstreams(&self) -> BTreeSet<&str> {
        self.references().filter_map(|reference| reference.split_once('/')).map(|(host, _)| host).collect()
    }

    /// Returns the manifest digest of a full reference, e.g. `registry.k8s.io/pause:3.10`.
    pub fn manifest(&self, reference: &str) -> Option<&Digest> {
        self.named.get(reference)
    }

    /// Returns every manifest in the indexes of the layouts, including manifests without a name.
    ///
    /// Public for the fuzz targets alone.
    #[doc(hidden)]
    pub fn listed(&self) -> impl Iterator<Item = &Digest> {
        self.listed.iter()
    }

    /// Returns the tags of a repository, `HOST/NAME`, in case-insensitive lexical order (OCI distribution
    /// specification, "Listing Tags"). Returns `None` if the repository has no images.
    ///
    /// Public for the fuzz targets alone.
    #[doc(hidden)]
    pub fn tags(&self, repository: &str) -> Option<Vec<&str>> {
        let rest = self.references().filter_map(|reference| reference.strip_prefix(repository));
        let rest: Vec<_> = rest.filter(|rest| rest.starts_with([':', '@'])).collect();
        let mut tags: Vec<_> = rest.iter().filter_map(|rest| rest.strip_prefix(':')).collect();
        tags.sort_by_key(|tag| (tag.to_lowercase(), *tag));
        (!rest.is_empty()).then_some(tags)
    }

    /// Returns the candidate files for the content of `digest`.
    pub fn files(&self, digest: &Digest) -> impl Iterator<Item = PathBuf> {
        self.layouts.iter().map(|layout| layout.blob(digest)).filter(|path| path.is_file())
    }
}
