//! Image sources as users write them, and the origin of resolved images.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use oci_spec::distribution::{ParseError, Reference};
use serde::{Deserialize, Serialize};

use crate::Digest;

/// The source of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Source {
    /// A directory or file: a layout of boot files, an OCI image layout, or an image archive.
    Path(PathBuf),
    /// An image in a registry.
    Registry(Box<Reference>),
}

impl Source {
    /// Parses `text`. It is a path if the path exists or the text has a path prefix; otherwise it is a
    /// reference, which must name its registry.
    ///
    /// # Errors
    /// Returns an error if the text is neither a path nor a reference.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let path = Path::new(text);
        if path.exists() || text.starts_with(['/', '.', '~']) {
            return Ok(Self::Path(path.to_owned()));
        }
        let wrong = |why: &str| SourceError { text: text.to_owned(), why: why.to_owned() };
        let host = text.split('/').next().unwrap_or_default();
        // Without this check, any word would be a Docker Hub image.
        if !text.contains('/') || !(host.contains(['.', ':']) || host == "localhost") {
            return Err(wrong("it does not begin with the host name of a registry"));
        }
        let reference: Reference = text.parse().map_err(|error: ParseError| wrong(&error.to_string()))?;
        if reference.digest().is_some_and(|digest| !digest.starts_with("sha256:")) {
            return Err(wrong("its digest is not of sha256"));
        }
        Ok(Self::Registry(Box::new(reference)))
    }
}

impl Source {
    /// Pins a registry image to a digest. Paths stay unchanged.
    #[must_use]
    pub fn at(self, digest: Option<&Digest>) -> Self {
        match (self, digest) {
            (Self::Registry(reference), Some(digest)) => {
                Self::Registry(Box::new(reference.clone_with_digest(digest.to_string())))
            }
            (source, _) => source,
        }
    }
}

/// The text is neither a path nor a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not an image: no such file or directory, and not a reference ({why}); write \
     a path, or HOST/NAME:TAG"
)]
pub struct SourceError {
    pub text: String,
    /// The reason the text is not a reference.
    pub why: String,
}

/// The origin of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The source, as the user wrote it.
    pub source: String,
    /// The digest of the reference, or of the manifest in an archive or layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The build time, if the image specifies it (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The architecture in the image config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// True if a tag named the image. A tag can refer to another image later.
    pub mutable: bool,
    /// Additional notes for the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        Self::parse(&text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Registry(reference) => write!(f, "{reference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_references_are_told_apart() {
        for path in ["/", ".", "./gone", "../gone"] {
            assert_eq!(Source::parse(path).expect("path"), Source::Path(path.into()));
        }
        let tagged =
            Source::parse("ghcr.io/urmanac/talos-cozystack-spin-only/talos:v1.11.5").expect("reference");
        let Source::Registry(reference) = tagged else { panic!("a path") };
        assert_eq!((reference.registry(), reference.tag()), ("ghcr.io", Some("v1.11.5")));
        assert!(matches!(Source::parse("127.0.0.1:5000/compute:v1"), Ok(Source::Registry(_))));
        assert!(matches!(Source::parse("localhost/compute:v1"), Ok(Source::Registry(_))));
    }

    #[test]
    fn a_word_is_not_an_image_of_docker_hub() {
        for text in ["compute", "images/compute", "ghcr.io/UPPER:v1", "ghcr.io/a@sha512:00"] {
            let error = Source::parse(text).expect_err("refused").to_string();
            assert!(error.contains(&format!("\"{text}\" is not an image")), "{error}");
        }
    }
}
