//! Image content by reference and digest, read from OCI image layouts.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use lab_model::Digest;

use crate::images::{Layout, LayoutError};

/// What the registry can serve: manifests by reference, blobs by digest.
#[derive(Clone, Debug, Default)]
pub struct Store {
    named: BTreeMap<String, Digest>,
    listed: BTreeSet<Digest>,
    layouts: Vec<Layout>,
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
    /// An image of an index whose digest is of no kind that is known here.
    #[error("{} lists \"{digest}\", which is no sha256 digest; export the image again", path.display())]
    Digest {
        /// Which file.
        path: PathBuf,
        /// What stands there.
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
    /// Opens OCI image layout directories; a reference in a later one replaces the same
    /// reference of an earlier one.
    ///
    /// # Errors
    /// When a layout's index is missing or malformed.
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

    /// Also looks for content in a layout that is filled while this is in use; what its index lists
    /// by now is not read.
    ///
    /// Public for the fuzz targets alone.
    #[doc(hidden)]
    pub fn look_in(&mut self, layout: PathBuf) {
        let layout = Layout::new(layout);
        if !self.layouts.contains(&layout) {
            self.layouts.push(layout);
        }
    }

    /// The full references of all images.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The registry hosts that images are named after, e.g. `registry.k8s.io`.
    pub fn upstreams(&self) -> BTreeSet<&str> {
        self.references().filter_map(|reference| reference.split_once('/')).map(|(host, _)| host).collect()
    }

    /// The manifest that a full reference names, e.g. `registry.k8s.io/pause:3.10`.
    pub fn manifest(&self, reference: &str) -> Option<&Digest> {
        self.named.get(reference)
    }

    /// Every manifest of the layouts' indexes, those without a name included.
    ///
    /// Public for the fuzz targets alone.
    #[doc(hidden)]
    pub fn listed(&self) -> impl Iterator<Item = &Digest> {
        self.listed.iter()
    }

    /// The tags of a repository, `HOST/NAME`, in lexical order without regard to case (OCI
    /// distribution specification, "Listing Tags"); `None` when it has no image at all.
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

    /// The files that should hold the content of `digest`.
    pub fn files(&self, digest: &Digest) -> impl Iterator<Item = PathBuf> {
        self.layouts.iter().map(|layout| layout.blob(digest)).filter(|path| path.is_file())
    }
}
