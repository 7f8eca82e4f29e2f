//! The HTTP server: listeners, and common request handling.

use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use futures::{FutureExt, future::BoxFuture};
use lab_model::events::Recorder;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::task::AbortOnDropHandle;

use super::{
    complaints::Complaints,
    refusal::Refusal,
    request::Target,
    served::{ContentRequest, Served},
    store::Store,
    upstreams::Upstreams,
};
use crate::images::PullThrough;

/// The default upstream if neither the request nor the port specifies one, as in the containerd resolver.
const DEFAULT_UPSTREAM: &str = "docker.io";

/// A running registry. Dropping it stops the server.
pub struct Registry {
    address: SocketAddr,
    served: Arc<Served>,
    servers: Vec<AbortOnDropHandle<()>>,
}

/// The state of one port.
#[derive(Clone)]
struct Port {
    served: Arc<Served>,
    /// The default upstream for requests on this port.
    upstream: Arc<str>,
}

/// The configuration of a registry.
pub struct RegistryOptions {
    pub store: Store,
    /// Fetches content that the store lacks, if the host may go online.
    pub pull_through: Option<PullThrough>,
    /// Receives errors: content that is missing, damaged or cannot be fetched.
    pub recorder: Recorder,
}

impl From<Store> for RegistryOptions {
    /// Serves only the store, and discards error events.
    fn from(store: Store) -> Self {
        Self { store, pull_through: None, recorder: Recorder::new() }
    }
}

/// The reason the registry cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No port is available.
    #[error("open a port for the image registry on the loopback interface: {0}")]
    Port(#[from] std::io::Error),
    /// A fixed port is not available.
    #[error("open port {port} of the loopback interface for the image registry: {source}")]
    FixedPort {
        /// The requested port.
        port: u16,
        source: std::io::Error,
    },
}

impl Registry {
    /// Starts a registry on a free loopback port.
    ///
    /// # Errors
    /// Returns an error if no port can be opened.
    pub fn start(options: impl Into<RegistryOptions>) -> BoxFuture<'static, Result<Self, RegistryError>> {
        Self::start_server(options.into()).boxed()
    }

    async fn start_server(options: RegistryOptions) -> Result<Self, RegistryError> {
        let RegistryOptions { mut store, pull_through, recorder } = options;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let complaints = Complaints::new(recorder);
        if let Some(fetches) = &pull_through {
            store.look_in(fetches.mirror().directory().to_owned());
        }
        let upstreams = pull_through.map(|fetches| Upstreams::new(fetches, complaints.clone()));
        let served = Arc::new(Served::new(store, upstreams, complaints));
        let port = Port { served: Arc::clone(&served), upstream: DEFAULT_UPSTREAM.into() };
        Ok(Self { address, served, servers: vec![serve(listener, port)] })
    }

    /// Also serves on another loopback port. Requests without an upstream use `upstream`, or Docker Hub if
    /// it is `None`.
    ///
    /// # Errors
    /// Returns an error if the port cannot be opened, for example because it is in use.
    pub fn also_at(&mut self, port: u16, upstream: Option<&str>) -> BoxFuture<'_, Result<(), RegistryError>> {
        let upstream = upstream.unwrap_or(DEFAULT_UPSTREAM).into();
        async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            let listener = listener.map_err(|source| RegistryError::FixedPort { port, source })?;
            self.servers.push(serve(listener, Port { served: Arc::clone(&self.served), upstream }));
            Ok(())
        }
        .boxed()
    }

    /// Returns the listen address. Guests reach the same port at the gateway address of the LAN.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the images that clients asked for by tag and that the mirror lacks, as they come. Empty with
    /// pull-through.
    pub fn missing(&self) -> watch::Receiver<BTreeSet<String>> {
        self.served.missing.subscribe()
    }

    /// Makes requests for manifests of these repositories (`registry.k8s.io/kube-scheduler`) wait for
    /// [`Registry::release`]. containerd waits five minutes for an answer (`image_pull_progress_timeout`), and its
    /// client asks again.
    pub fn hold(&self, repositories: impl IntoIterator<Item = String>) {
        self.served.held.send_modify(|held| held.extend(repositories));
    }

    /// Answers requests for manifests of these repositories, those that wait included.
    pub fn release(&self, repositories: &BTreeSet<String>) {
        self.served.held.send_modify(|held| held.retain(|one| !repositories.contains(one)));
    }

    /// Returns the number of bytes sent for blobs and manifests.
    pub fn bytes_served(&self) -> u64 {
        self.served.bytes.load(Ordering::Relaxed)
    }
}

fn serve(listener: TcpListener, port: Port) -> AbortOnDropHandle<()> {
    let router = Router::new().route("/v2/", any(version)).route("/v2/{*path}", any(pull)).with_state(port);
    AbortOnDropHandle::new(tokio::spawn(async move {
        // `serve` returns only after a graceful shutdown, which the registry does not use.
        let _ = axum::serve(listener, router).await;
    }))
}

fn reads(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// end-1: the API version check.
async fn version(method: Method) -> Response {
    if reads(&method) { StatusCode::OK.into_response() } else { Refusal::read_only().into_response() }
}

async fn pull(
    State(port): State<Port>,
    method: Method,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if !reads(&method) {
        return Refusal::read_only().into_response();
    }
    let upstream = query.get("ns").map_or(&*port.upstream, String::as_str);
    let answer = async {
        let target = Target::parse(&path)?;
        let request = ContentRequest { method: &method, upstream, target, query: &query, headers: &headers };
        port.served.answer(request).await
    };
    answer.await.unwrap_or_else(|refusal| {
        // `Served` has already reported content that it could not serve.
        if refusal.status != StatusCode::INTERNAL_SERVER_ERROR {
            port.served.complaints.tell(&refusal.message);
        }
        refusal.into_response()
    })
}
