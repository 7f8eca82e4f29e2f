//! Errors for OCI images.

use std::{io, path::PathBuf};

use lab_model::SourceError;

use super::layout::LayoutError;

/// The cause, the affected image or file, and the next step for the user.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The text is neither a path nor a reference.
    #[error(transparent)]
    NoSource(#[from] SourceError),
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The attempted operation.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A file in an image is missing or damaged.
    #[error("{within}: {part}: {why}")]
    Damaged {
        within: String,
        /// The part of the image.
        part: String,
        why: String,
    },
    /// An index has no image for arm64.
    #[error(
        "{within} has no image for linux/arm64, only for: {platforms}; build and push the image for linux/arm64"
    )]
    Platform {
        within: String,
        /// The available platforms.
        platforms: String,
    },
    /// The archive or layout contains several images.
    #[error("{within} contains several images: {names}; export only one image")]
    Several {
        /// The archive or layout.
        within: String,
        /// The names of the images.
        names: String,
    },
    /// The registry does not have the image.
    #[error("the registry has no {reference}{elsewhere} ({said})")]
    NotInRegistry {
        /// The requested reference.
        reference: String,
        /// Another known name under which the registry has the image; otherwise empty.
        elsewhere: String,
        /// The response of the registry.
        said: String,
    },
    /// The registry denies read access.
    #[error(
        "no permission to read {reference} {}: {said}; log in with `docker login {registry}` or make the package public",
        if *anonymous { "without logging in" } else { "with the credentials of the docker configuration" }
    )]
    Refused {
        /// The requested reference.
        reference: String,
        registry: String,
        /// True if the client found no credentials.
        anonymous: bool,
        /// The response of the registry.
        said: String,
    },
    /// The registry is unreachable, and the image is not in the cache.
    #[error(
        "{reference} is not in the cache, and its registry could not be reached: {said}; fetch it once while \
         online: with `lab image pin {reference}` if nodes boot from it, with `lab mirror pull {reference}` if they run it"
    )]
    Unreachable {
        /// The requested reference.
        reference: String,
        /// The connection error.
        said: String,
    },
    /// The credentials in the docker configuration are unusable.
    #[error("the credentials for {registry} in the docker configuration cannot be used: {why}")]
    Credentials {
        /// The registry of the credentials.
        registry: String,
        why: String,
    },
    /// A lock file is unusable.
    #[error("{}: {why}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        why: String,
    },
}

impl OciError {
    pub(crate) fn file<'a>(
        action: &'static str,
        path: &'a std::path::Path,
    ) -> impl FnOnce(io::Error) -> OciError + use<'a> {
        move |source| OciError::File { action, path: path.to_owned(), source }
    }
}

impl From<LayoutError> for OciError {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::File { action, path, source } => Self::File { action, path, source },
            LayoutError::Index { path, source } => Self::Damaged {
                within: path.parent().unwrap_or(&path).display().to_string(),
                part: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                why: source.to_string(),
            },
        }
    }
}
