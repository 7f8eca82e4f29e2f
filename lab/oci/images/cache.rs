//! A cache of content from registries, keyed by digest. It also records the last known digest of each tag.

use std::{fs, path::PathBuf};

use lab_model::{
    Digest,
    files::{read_bounded, replace_file},
};
use serde::{Deserialize, Serialize};

use super::{error::OciError, layout::Layout};

/// A directory with the blobs of an image layout, and the last known digests of tags.
#[derive(Clone, Debug)]
pub(super) struct FetchCache {
    pub(super) layout: Layout,
}

/// The digest of a tag at the time of the last registry request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastSeen {
    /// The reference, including its tag.
    pub(super) reference: String,
    /// The digest of the manifest or index.
    pub(super) digest: String,
    /// The time of the request.
    pub(super) at: jiff::Timestamp,
}

impl FetchCache {
    pub(super) fn new(directory: impl Into<PathBuf>) -> Self {
        Self { layout: Layout::new(directory) }
    }

    pub(super) fn last_seen(&self, reference: &str) -> Option<LastSeen> {
        let text = read_bounded(&self.tag(reference), 64 << 10).ok()?;
        serde_json::from_slice(&text).ok().filter(|seen: &LastSeen| seen.reference == reference)
    }

    pub(super) fn note(&self, seen: &LastSeen) -> Result<(), OciError> {
        let path = self.tag(&seen.reference);
        let tags = self.tags();
        fs::create_dir_all(&tags).map_err(OciError::file("create", &tags))?;
        let text = serde_json::to_vec(seen).unwrap_or_default();
        replace_file(&path, &text).map_err(OciError::file("write", &path))
    }

    fn tags(&self) -> PathBuf {
        self.layout.directory().join("tags")
    }

    fn tag(&self, reference: &str) -> PathBuf {
        self.tags().join(Digest::of_bytes(reference.as_bytes()).hex())
    }
}
