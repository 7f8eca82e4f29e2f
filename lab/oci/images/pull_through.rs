//! Fetches images on demand. If the mirror lacks an image and the host is online, the lab fetches it from
//! the upstream registry.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use lab_model::Digest;
use oci_client::Reference;

use super::{
    cache::FetchCache,
    error::OciError,
    mirror::Mirror,
    registry::{RegistryClient, image_parts},
};

/// The result of a fetch, shared by all waiting callers.
type Fetched = Result<Digest, Arc<OciError>>;
/// A fetch that any number of callers can await. It continues if all callers stop waiting.
type Flight = Shared<BoxFuture<'static, Fetched>>;

/// Fetches content into the directory of a mirror. Concurrent requests for the same content share one
/// fetch. Cloning is cheap; all clones share their state.
#[derive(Clone)]
pub struct PullThrough {
    mirror: Mirror,
    flights: Arc<Mutex<HashMap<String, Flight>>>,
}

impl PullThrough {
    /// Creates a fetcher for `mirror`.
    pub fn new(mirror: Mirror) -> Self {
        Self { mirror, flights: Arc::default() }
    }

    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Fetches the manifest or index of a reference. Resolves each tag only once, so that all nodes get the
    /// same image.
    ///
    /// # Errors
    /// Returns an error if the content cannot be fetched, or if the mirror cannot be written.
    pub fn manifest(&self, reference: Reference) -> BoxFuture<'static, Fetched> {
        let cache = self.mirror.cache();
        self.flight(format!("manifest {reference}"), async move {
            let digest = reference.digest().and_then(Digest::parse);
            if let Some(digest) = digest
                && holds(&cache, &digest).await
            {
                return Ok(digest);
            }
            RegistryClient::new(&reference, &cache)?.top(&reference).await
        })
    }

    /// Fetches a blob from the repository of `reference`.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be fetched or does not match its digest, or if the mirror cannot
    /// be written.
    pub fn blob(&self, reference: &Reference, digest: Digest) -> BoxFuture<'static, Fetched> {
        let (cache, reference) = (self.mirror.cache(), reference.clone());
        self.flight(format!("blob {digest}"), async move {
            // Another task may have fetched the blob since the caller checked the mirror, and an existing
            // blob may be damaged.
            if !holds(&cache, &digest).await {
                cache.layout.forget(&digest)?;
                RegistryClient::new(&reference, &cache)?.part(&reference, &digest.to_string()).await?;
            }
            Ok::<_, OciError>(digest)
        })
    }

    /// Fetches the remaining parts of an arm64 image with an existing manifest, and adds the image to the
    /// index. The lab can then serve the image without its upstream registry.
    ///
    /// # Errors
    /// Returns an error if a part cannot be fetched, or if the mirror cannot be written.
    pub fn rest(&self, reference: Reference, digest: Digest) -> BoxFuture<'static, Fetched> {
        let own = self.clone();
        self.flight(format!("rest {reference}"), async move {
            let parts = image_parts(&reference, &digest, &own.mirror.cache()).await.map_err(Arc::new)?;
            for part in parts {
                own.blob(&reference, part).await?;
            }
            let (mirror, name, top) = (own.mirror.clone(), reference.clone(), digest.clone());
            let listed = tokio::task::spawn_blocking(move || mirror.list(&name, &top)).await;
            listed.unwrap_or_else(|error| Err(ended(&reference, &error))).map_err(Arc::new)?;
            Ok::<_, Arc<OciError>>(digest)
        })
    }

    /// Returns the fetch with this name: a fetch in progress, a completed tag resolution, or a new fetch.
    fn flight<E: Into<Arc<OciError>>>(
        &self,
        name: String,
        work: impl Future<Output = Result<Digest, E>> + Send + 'static,
    ) -> BoxFuture<'static, Fetched> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let again = |flight: &Flight| match flight.peek() {
            None => false,
            // A request for a digest means that the content is missing or damaged, so fetch it again.
            Some(Ok(_)) => name.contains("sha256:"),
            Some(Err(_)) => true,
        };
        if let Some(flight) = flights.get(&name)
            && !again(flight)
        {
            return flight.clone().boxed();
        }
        let task = tokio::spawn(async move { work.await.map_err(Into::into) });
        let what = name.clone();
        let flight = task.map(move |done| done.unwrap_or_else(|error| Err(Arc::new(ended(&what, &error)))));
        let flight = flight.boxed().shared();
        flights.insert(name, flight.clone());
        flight.boxed()
    }
}

/// Creates the error for a fetch that panicked or was cancelled at process exit.
fn ended(what: &impl std::fmt::Display, error: &tokio::task::JoinError) -> OciError {
    OciError::Damaged { within: what.to_string(), part: "fetch".into(), why: error.to_string() }
}

/// Reports whether the mirror has an undamaged blob.
async fn holds(cache: &FetchCache, digest: &Digest) -> bool {
    let path = cache.layout.blob(digest);
    let read = tokio::task::spawn_blocking(move || fs::File::open(path).and_then(Digest::of_reader));
    matches!(read.await, Ok(Ok(found)) if found == *digest)
}
