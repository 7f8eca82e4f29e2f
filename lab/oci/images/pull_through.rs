//! Fetches images on demand. If the mirror lacks an image and the host is online, the lab fetches it from
//! the upstream registry.
//!
//! Guests and every user of the host can ask for any upstream. The lab asks only those that configs and scenarios name,
//! without credentials unless the user allows them for an upstream, and never hosts of private networks.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use lab_model::{Digest, network::may_be_public};
use oci_client::Reference;

use super::{
    cache::FetchCache,
    error::OciError,
    exchange::Reach,
    mirror::Mirror,
    registry::{Access, Part, RegistryClient, image_parts},
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
    upstreams: Arc<Mutex<BTreeSet<String>>>,
    credentials: Arc<BTreeSet<String>>,
    reach: Reach,
}

impl PullThrough {
    /// Creates a fetcher for `mirror`. It asks no upstream until [`Self::allow`] names one, and uses the user's
    /// credentials only for the hosts in `credentials`, which it may also ask.
    pub fn new(mirror: Mirror, credentials: impl IntoIterator<Item = String>) -> Self {
        let credentials: BTreeSet<_> = credentials.into_iter().collect();
        Self {
            mirror,
            flights: Arc::default(),
            upstreams: Arc::new(Mutex::new(credentials.clone())),
            credentials: Arc::new(credentials),
            reach: Reach::Public,
        }
    }

    /// Also asks upstreams on this host and in private networks, for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn reaching_any_host(mut self) -> Self {
        self.reach = Reach::Any;
        self
    }

    /// Allows upstreams, by the names that references have: `docker.io`, `registry.k8s.io`.
    pub fn allow(&self, upstreams: impl IntoIterator<Item = String>) {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner).extend(upstreams);
    }

    /// Returns the reason why an upstream is not asked.
    pub fn refusal(&self, upstream: &str) -> Option<String> {
        let upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        if !upstreams.contains(upstream) {
            return Some(format!(
                "no machine config and no scenario of this run names the registry {upstream}; name it in \
                 machine.registries.mirrors or with --pull-through-credentials {upstream}"
            ));
        }
        let host = upstream.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let host = host.map_or(upstream, |(host, _)| host);
        (self.reach == Reach::Public && !may_be_public(host)).then(|| {
            format!(
                "{upstream} is not on the public internet; fetch its images with `lab mirror pull` instead"
            )
        })
    }

    fn access(&self, reference: &Reference) -> Access {
        let credentials = self.credentials.contains(reference.registry());
        Access::OfAGuest { credentials, reach: self.reach }
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
        let (cache, access) = (self.mirror.cache(), self.access(&reference));
        self.flight(format!("manifest {reference}"), async move {
            let digest = reference.digest().and_then(Digest::parse);
            if let Some(digest) = digest
                && holds(&cache, &digest).await
            {
                return Ok(digest);
            }
            RegistryClient::new(&reference, &cache, access)?.top(&reference).await
        })
    }

    /// Fetches a blob from the repository of `reference`.
    ///
    /// # Errors
    /// Returns an error if the blob cannot be fetched or does not match its digest, or if the mirror cannot
    /// be written.
    pub fn blob(&self, reference: &Reference, digest: Digest) -> BoxFuture<'static, Fetched> {
        let part = Part { digest, size: None };
        self.part(reference, part)
    }

    fn part(&self, reference: &Reference, part: Part) -> BoxFuture<'static, Fetched> {
        let (cache, reference, access) = (self.mirror.cache(), reference.clone(), self.access(reference));
        self.flight(format!("blob {}", part.digest), async move {
            let digest = part.digest.clone();
            // Another task may have fetched the blob since the caller checked the mirror, and an existing
            // blob may be damaged.
            if !holds(&cache, &digest).await {
                cache.layout.forget(&digest)?;
                RegistryClient::new(&reference, &cache, access)?.part(&reference, &part).await?;
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
            let access = own.access(&reference);
            let parts = image_parts(&reference, &digest, &own.mirror.cache(), access).await;
            for part in parts.map_err(Arc::new)? {
                own.part(&reference, part).await?;
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
