//! Images fetched when they are asked for: what a mirror lacks comes from the registry that it
//! stands in for, while the host is online.

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

/// What came of a fetch; shared by all who waited for it.
type Fetched = Result<Digest, Arc<OciError>>;
/// A fetch that any number wait for, and that goes on when they no longer do.
type Flight = Shared<BoxFuture<'static, Fetched>>;

/// Fetches into a mirror's directory, each thing once, however many ask for it at the same time.
/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct PullThrough {
    mirror: Mirror,
    flights: Arc<Mutex<HashMap<String, Flight>>>,
}

impl PullThrough {
    /// Fetches into `mirror`.
    pub fn new(mirror: Mirror) -> Self {
        Self { mirror, flights: Arc::default() }
    }

    /// Where it fetches into.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Fetches the manifest or index that a reference names. What a tag stands for is asked once, so
    /// that all nodes get the same image.
    ///
    /// # Errors
    /// When it cannot be had, or the mirror cannot be written.
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
    /// When it cannot be had or is not what its digest promises, or the mirror cannot be written.
    pub fn blob(&self, reference: &Reference, digest: Digest) -> BoxFuture<'static, Fetched> {
        let (cache, reference) = (self.mirror.cache(), reference.clone());
        self.flight(format!("blob {digest}"), async move {
            // Somebody else may have fetched it since the mirror was looked at; and what is there may
            // be damaged.
            if !holds(&cache, &digest).await {
                cache.layout.forget(&digest)?;
                RegistryClient::new(&reference, &cache)?.part(&reference, &digest.to_string()).await?;
            }
            Ok::<_, OciError>(digest)
        })
    }

    /// Fetches the rest of the arm64 image whose manifest is there already, and lists it, so that it
    /// is served from now on without its registry.
    ///
    /// # Errors
    /// When a part cannot be had, or the mirror cannot be written.
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

    /// The fetch of that name: the one under way, the one that brought what a name stands for, or a
    /// new one of its own.
    fn flight<E: Into<Arc<OciError>>>(
        &self,
        name: String,
        work: impl Future<Output = Result<Digest, E>> + Send + 'static,
    ) -> BoxFuture<'static, Fetched> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let again = |flight: &Flight| match flight.peek() {
            None => false,
            // What a digest names is looked for again: it is asked for when it is gone or damaged.
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

/// A fetch that panicked or that the end of the process cut off.
fn ended(what: &impl std::fmt::Display, error: &tokio::task::JoinError) -> OciError {
    OciError::Damaged { within: what.to_string(), part: "fetch".into(), why: error.to_string() }
}

/// Whether the mirror has a blob, undamaged.
async fn holds(cache: &FetchCache, digest: &Digest) -> bool {
    let path = cache.layout.blob(digest);
    let read = tokio::task::spawn_blocking(move || fs::File::open(path).and_then(Digest::of_reader));
    matches!(read.await, Ok(Ok(found)) if found == *digest)
}
