//! Images for preflight, with their origin.

use std::fmt;

use futures::{FutureExt, future::BoxFuture};
use lab_image::{InspectError, Inspection};
use lab_model::{Origin, Source, node::Role};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::images::{ImageStore, OciError};

/// An image to inspect, with its intended role, if known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub role: Option<Role>,
    pub source: Source,
}

/// An inspected image.
#[derive(Clone, Debug, Serialize)]
pub struct PreflightImage {
    /// The intended role, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The origin of the image.
    pub origin: Origin,
    #[serde(flatten)]
    pub inspection: Inspection,
}

/// The reason an image cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The source cannot be resolved.
    #[error(transparent)]
    Source(#[from] OciError),
    /// The source is not an image, or the image is damaged.
    #[error("{image}: {error}")]
    Image {
        /// The image, as the user named it.
        image: String,
        error: Box<InspectError>,
    },
}

impl PreflightImage {
    /// Fetches and inspects all candidates. Uses a separate thread for each image.
    ///
    /// # Errors
    /// Returns the error of the first image that cannot be fetched or inspected.
    pub fn all(
        candidates: Vec<Candidate>,
        store: &ImageStore,
    ) -> BoxFuture<'_, Result<Vec<Self>, PreflightError>> {
        Self::looked_at(candidates, store).boxed()
    }

    async fn looked_at(candidates: Vec<Candidate>, store: &ImageStore) -> Result<Vec<Self>, PreflightError> {
        let mut readers: Vec<JoinHandle<Result<Self, PreflightError>>> = Vec::new();
        for Candidate { role, source } in candidates {
            let resolved = store.resolve(&source).await?;
            let disks = store.disks();
            readers.push(tokio::task::spawn_blocking(move || {
                let inspection = Inspection::of(&resolved.path, &disks).map_err(|error| {
                    PreflightError::Image { image: source.to_string(), error: Box::new(error) }
                })?;
                Ok(Self { role, origin: resolved.origin, inspection })
            }));
        }
        let mut images = Vec::new();
        for reader in readers {
            images.push(reader.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?);
        }
        Ok(images)
    }
}

impl fmt::Display for PreflightImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { source, digest, created, architecture: _, mutable: _, notes } = &self.origin;
        write!(f, "{source}")?;
        self.role.as_ref().map_or(Ok(()), |role| write!(f, " ({role})"))?;
        writeln!(f)?;
        if let Some(digest) = digest {
            writeln!(f, "  {:<14} {digest}", "image")?;
        }
        if let Some(created) = created {
            writeln!(f, "  {:<14} {created}", "built")?;
        }
        notes.iter().try_for_each(|note| writeln!(f, "  {:<14} {note}", "note"))?;
        let text = self.inspection.to_string();
        // Omit the first line: it contains the directory, which differs from the name in the user input.
        f.write_str(text.split_once('\n').map_or("", |(_, rest)| rest))
    }
}
