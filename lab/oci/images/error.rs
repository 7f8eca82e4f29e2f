//! Why an image of the OCI formats cannot be used.

use std::{io, path::PathBuf};

use lab_model::SourceError;

use super::layout::LayoutError;

/// What went wrong, with what, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// Neither a path nor a reference.
    #[error(transparent)]
    NoSource(#[from] SourceError),
    /// A file or directory that could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file within an image that is missing or damaged.
    #[error("{within}: {part}: {why}")]
    Damaged {
        /// The image.
        within: String,
        /// Which part of it.
        part: String,
        /// What is wrong.
        why: String,
    },
    /// No image for arm64 among those of an index.
    #[error("{within} has no image for linux/arm64, only for: {platforms}; build or push that one too")]
    Platform {
        /// The index.
        within: String,
        /// What it has.
        platforms: String,
    },
    /// More than one image.
    #[error("{within} holds several images: {names}; export the one that is meant")]
    Several {
        /// The archive or layout.
        within: String,
        /// Which.
        names: String,
    },
    /// The registry does not have it.
    #[error("the registry has no {reference}{elsewhere} ({said})")]
    NotInRegistry {
        /// What was asked for.
        reference: String,
        /// Under which other known name it is, if it is.
        elsewhere: String,
        /// What the registry said.
        said: String,
    },
    /// The registry does not let it be read.
    #[error(
        "{reference} may not be read {}: {said}; log in with `docker login {registry}` or make the package public",
        if *anonymous { "without logging in" } else { "with the credentials of the docker configuration" }
    )]
    Refused {
        /// What was asked for.
        reference: String,
        /// Where.
        registry: String,
        /// Whether no credentials were found.
        anonymous: bool,
        /// What the registry said.
        said: String,
    },
    /// The registry could not be reached, and nothing is known from before.
    #[error(
        "{reference} is not in the cache, and its registry could not be reached: {said}; fetch it once while \
         online: with `lab image pin {reference}` if nodes boot from it, with `lab mirror pull {reference}` if they run it"
    )]
    Unreachable {
        /// What was asked for.
        reference: String,
        /// What went wrong.
        said: String,
    },
    /// The docker configuration cannot be used.
    #[error("the docker configuration's credentials for {registry} cannot be used: {why}")]
    Credentials {
        /// For which registry.
        registry: String,
        /// Why not.
        why: String,
    },
    /// A lock file that cannot be used.
    #[error("{}: {why}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl OciError {
    pub(super) fn file<'a>(
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
