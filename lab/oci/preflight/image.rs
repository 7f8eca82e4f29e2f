//! An image that is looked at, and where it came from.

use std::fmt;

use futures::{FutureExt, future::BoxFuture};
use lab_image::{InspectError, Inspection};
use lab_model::{Origin, Source, node::Role};
use serde::Serialize;
use tokio::task::JoinHandle;

use crate::images::{ImageStore, OciError};

/// An image to look at, with the role that it is meant for, if that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The role.
    pub role: Option<Role>,
    /// The image.
    pub source: Source,
}

/// An image that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct PreflightImage {
    /// The role that it is meant for, if that is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Where it came from.
    pub origin: Origin,
    /// What is in it.
    #[serde(flatten)]
    pub inspection: Inspection,
}

/// Why an image could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// It could not be had.
    #[error(transparent)]
    Source(#[from] OciError),
    /// It is no image, or damaged.
    #[error("{image}: {error}")]
    Image {
        /// The image, as it was named.
        image: String,
        /// What is wrong with it.
        error: Box<InspectError>,
    },
}

impl PreflightImage {
    /// Fetches and reads all candidates, the reading of each on a core of its own.
    ///
    /// # Errors
    /// The first image that cannot be had or read.
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
        // Its first line is the directory, of which the user has written another name.
        f.write_str(text.split_once('\n').map_or("", |(_, rest)| rest))
    }
}
