//! What was fetched from registries, kept by digest, and which digest a tag last had.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_model::{Digest, files::replace_file};
use serde::{Deserialize, Serialize};

use super::{error::OciError, image::blob};

/// A directory with the `blobs/` of an image layout, safe to share between runs: a blob appears
/// whole by rename or not at all.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

/// What a tag was when the registry was last asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastSeen {
    /// The reference, with its tag.
    pub(super) reference: String,
    /// The digest of what it named.
    pub(super) digest: String,
    /// When.
    pub(super) at: jiff::Timestamp,
}

impl Cache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.directory.join(blob(digest)).is_file()
    }

    /// Keeps a blob, and returns its digest.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Digest, OciError> {
        let digest = Digest::of_bytes(bytes);
        let file = self.begin()?;
        fs::write(file.path(), bytes).map_err(OciError::file("write", file.path()))?;
        self.keep(file, &digest)?;
        Ok(digest)
    }

    /// A file for a blob that is being fetched.
    pub(super) fn begin(&self) -> Result<tempfile::NamedTempFile, OciError> {
        let blobs = self.directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(OciError::file("create", &blobs))?;
        let file = tempfile::Builder::new().prefix(".partial-").tempfile_in(&blobs);
        file.map_err(OciError::file("write in", &blobs))
    }

    /// Keeps a fetched file as the blob `digest`, which it has been proven to be.
    pub(super) fn keep(&self, file: tempfile::NamedTempFile, digest: &Digest) -> Result<(), OciError> {
        let path = self.directory.join(blob(digest));
        file.persist(&path).map(drop).map_err(|error| OciError::file("write", &path)(error.error))
    }

    /// Forgets a blob, so that it is fetched again.
    pub(super) fn forget(&self, name: &str) -> Result<(), OciError> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OciError::file("delete", &path)(error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn last_seen(&self, reference: &str) -> Option<LastSeen> {
        let text = fs::read(self.tag(reference)).ok()?;
        serde_json::from_slice(&text).ok().filter(|seen: &LastSeen| seen.reference == reference)
    }

    pub(super) fn note(&self, seen: &LastSeen) -> Result<(), OciError> {
        let path = self.tag(&seen.reference);
        let tags = self.directory.join("tags");
        fs::create_dir_all(&tags).map_err(OciError::file("create", &tags))?;
        let text = serde_json::to_vec(seen).unwrap_or_default();
        replace_file(&path, &text).map_err(OciError::file("write", &path))
    }

    fn tag(&self, reference: &str) -> PathBuf {
        self.directory.join("tags").join(Digest::of_bytes(reference.as_bytes()).hex())
    }
}
