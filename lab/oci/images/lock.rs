//! The lock file: the digest of each reference at the time it was pinned.

use std::{collections::BTreeMap, io, path::PathBuf};

use lab_model::{
    Digest, Origin,
    files::{read_text_bounded, replace_file},
    yaml,
};
use oci_client::Reference;
use serde::{Deserialize, Serialize};

use super::error::OciError;

/// The file name, in the scenario directory of a project.
pub const LOCK_FILE: &str = "images.lock.yaml";
/// The largest file that is read, in bytes: thousands of pins.
const LARGEST: usize = 1 << 20;
/// The header comment of the file.
const HEAD: &str =
    "# Written by `lab image pin`: the images that tags stood for. References are taken by these digests.\n";

/// The pinned digests of references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    path: PathBuf,
    images: BTreeMap<String, Pinned>,
}

/// The pinned state of a reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// The build time of the image, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The time of pinning.
    pub pinned: jiff::Timestamp,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    images: BTreeMap<String, Pinned>,
}

impl Lock {
    /// Reads the lock file at `path`. A missing file contains no pins.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is malformed.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, OciError> {
        let path = path.into();
        let text = match read_text_bounded(&path, LARGEST as u64) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, images: BTreeMap::new() });
            }
            Err(error) => return Err(OciError::file("read", &path)(error)),
        };
        let wrong = |why: String| OciError::Lock { path: path.clone(), why };
        yaml::within_limits(&text, LARGEST).map_err(|error| wrong(error.message))?;
        let File { images } = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let bad = images.iter().find(|(_, pinned)| Digest::parse(&pinned.digest).is_none());
        if let Some((reference, pinned)) = bad {
            return Err(wrong(format!("{reference}: \"{}\" is not a sha256 digest", pinned.digest)));
        }
        Ok(Self { path, images })
    }

    /// Returns the file name for messages.
    pub(super) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns the pinned digest of a reference. A reference with a digest needs no pin.
    pub fn digest(&self, reference: &Reference) -> Option<Digest> {
        let pinned = self.images.get(&reference.whole()).filter(|_| reference.digest().is_none())?;
        Digest::parse(&pinned.digest)
    }

    /// Pins a reference to the digest in `origin`, and returns the previous pin.
    pub fn pin(&mut self, reference: &Reference, origin: &Origin) -> Option<Pinned> {
        let digest = origin.digest.as_ref()?.to_string();
        let pinned = Pinned { digest, created: origin.created.clone(), pinned: jiff::Timestamp::now() };
        self.images.insert(reference.whole(), pinned)
    }

    /// Writes the file atomically.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write(&self) -> Result<(), OciError> {
        let text = serde_yaml::to_string(&File { images: self.images.clone() }).unwrap_or_default();
        replace_file(&self.path, format!("{HEAD}{text}").as_bytes())
            .map_err(OciError::file("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_pinned_is_read_again() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("images.lock.yaml");
        let mut lock = Lock::read(&path).expect("none yet");
        let reference: Reference = "ghcr.io/a/talos:v1".parse().expect("reference");
        assert_eq!(lock.digest(&reference), None);
        let digest = Digest::of_bytes(b"manifest");
        let origin = Origin { digest: Some(digest.clone()), ..Origin::default() };
        assert_eq!(lock.pin(&reference, &origin), None);
        lock.write().expect("write");
        let lock = Lock::read(&path).expect("read");
        assert_eq!(lock.digest(&reference), Some(digest.clone()));
        assert_eq!(lock.digest(&reference.clone_with_digest(digest.to_string())), None);
    }

    #[test]
    fn a_damaged_file_is_told() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("images.lock.yaml");
        let text = "images: {ghcr.io/a/b:v1: {digest: latest, pinned: 2026-01-01T00:00:00Z}}";
        let (deep, large) = ("[".repeat(LARGEST), "#".repeat(3 << 20));
        for (text, why) in [
            ("images: [", "lock.yaml"),
            (text, "\"latest\" is not a sha256 digest"),
            (deep.as_str(), "nested deeper than 100 levels"),
            (large.as_str(), "it has more than 1 MiB"),
        ] {
            fs::write(&path, text).expect("write");
            let error = Lock::read(&path).expect_err("damaged").to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
