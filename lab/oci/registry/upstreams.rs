//! Fetches content that the mirror lacks from upstream registries.

use axum::http::StatusCode;
use lab_model::Digest;
use oci_client::Reference;

use super::{
    complaints::Complaints,
    refusal::{Code, Refusal},
};
use crate::images::{OciError, PullThrough};

/// Fetches content for the registry, and reports the results.
pub(super) struct Upstreams {
    fetches: PullThrough,
    complaints: Complaints,
}

impl Upstreams {
    pub(super) fn new(fetches: PullThrough, complaints: Complaints) -> Self {
        Self { fetches, complaints }
    }

    /// Fetches the blob of `name`, `HOST/NAME@DIGEST`, into the mirror.
    pub(super) async fn blob(&self, upstream: &str, name: &str, digest: &Digest) -> Result<(), Refusal> {
        let reference = self.reference(upstream, name)?;
        let fetched = self.fetches.blob(&reference, digest.clone()).await;
        fetched.map(drop).map_err(|error| self.refusal(upstream, name, &error, Code::BlobUnknown))
    }

    /// Fetches the manifest of `name` into the mirror. For a tag, the rest of the image follows in the
    /// background, because the client will request it. The complete image is then added to the index.
    pub(super) async fn manifest(&self, upstream: &str, name: &str) -> Result<Digest, Refusal> {
        let reference = self.reference(upstream, name)?;
        let digest = self
            .fetches
            .manifest(reference.clone())
            .await
            .map_err(|error| self.refusal(upstream, name, &error, Code::ManifestUnknown))?;
        if reference.digest().is_none() {
            let rest = self.fetches.rest(reference, digest.clone());
            let (complaints, upstream, name) =
                (self.complaints.clone(), upstream.to_owned(), name.to_owned());
            tokio::spawn(async move {
                if let Err(error) = rest.await {
                    complaints.tell(&told(&upstream, &name, &error));
                }
            });
        }
        Ok(digest)
    }

    fn reference(&self, upstream: &str, name: &str) -> Result<Reference, Refusal> {
        if let Some(why) = self.fetches.refusal(upstream) {
            let message = format!("{name} is not in the mirror and is not fetched: {why}");
            self.complaints.tell(&message);
            return Err(Refusal { status: StatusCode::FORBIDDEN, code: Code::Denied, message });
        }
        let reference = name.parse().ok().filter(|reference: &Reference| reference.registry() == upstream);
        reference.ok_or_else(|| {
            let message = format!("\"{upstream}\" names no registry that {name} could be fetched from");
            self.complaints.tell(&message);
            Refusal::not_found(Code::NameInvalid, message)
        })
    }

    fn refusal(&self, upstream: &str, name: &str, error: &OciError, unknown: Code) -> Refusal {
        let message = told(upstream, name, error);
        self.complaints.tell(&message);
        let (status, code) = match error {
            OciError::NotInRegistry { .. } => (StatusCode::NOT_FOUND, unknown),
            OciError::Refused { .. } => (StatusCode::FORBIDDEN, Code::Denied),
            OciError::File { .. } => (StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown),
            _ => (StatusCode::BAD_GATEWAY, Code::Unknown),
        };
        Refusal { status, code, message }
    }
}

fn told(upstream: &str, name: &str, error: &OciError) -> String {
    let why = match error {
        OciError::Unreachable { said, .. } => format!("it could not be reached: {said}"),
        other => other.to_string(),
    };
    format!("{name} is not in the mirror, and fetching it from {upstream} failed: {why}")
}
