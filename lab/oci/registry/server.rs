//! The HTTP side: listeners, and what is common to all requests.

use std::{
    collections::HashMap,
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
use tokio::net::TcpListener;
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

/// The upstream of a request that names none, where the port does not say: as in containerd's
/// resolver.
const DEFAULT_UPSTREAM: &str = "docker.io";

/// A running registry; stops when dropped.
pub struct Registry {
    address: SocketAddr,
    served: Arc<Served>,
    servers: Vec<AbortOnDropHandle<()>>,
}

/// What is known where a request comes in.
#[derive(Clone)]
struct Port {
    served: Arc<Served>,
    /// The upstream of a request that names none.
    upstream: Arc<str>,
}

/// What a registry serves, and how.
pub struct RegistryOptions {
    /// The images.
    pub store: Store,
    /// Fetches what the store lacks, if the host may.
    pub pull_through: Option<PullThrough>,
    /// Where it is told what goes wrong: content that is missing, damaged or cannot be fetched.
    pub recorder: Recorder,
}

impl From<Store> for RegistryOptions {
    /// The content of the store alone, and nobody is told anything.
    fn from(store: Store) -> Self {
        Self { store, pull_through: None, recorder: Recorder::new() }
    }
}

/// Why the registry does not run.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No port can be had at all.
    #[error("open a port for the image registry on the loopback interface: {0}")]
    Port(#[from] std::io::Error),
    /// A port that was asked for cannot be had.
    #[error("open port {port} of the loopback interface for the image registry: {source}")]
    FixedPort {
        /// Which.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Registry {
    /// Serves on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port can be opened.
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

    /// Serves on one more port of the loopback interface, where a request that names no upstream
    /// means `upstream`, or Docker Hub's name without one.
    ///
    /// # Errors
    /// When the port cannot be opened, as when something else listens there.
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

    /// Where it listens; guests reach the same port at the LAN's gateway address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of blobs and manifests sent so far.
    pub fn bytes_served(&self) -> u64 {
        self.served.bytes.load(Ordering::Relaxed)
    }
}

fn serve(listener: TcpListener, port: Port) -> AbortOnDropHandle<()> {
    let router = Router::new().route("/v2/", any(version)).route("/v2/{*path}", any(pull)).with_state(port);
    AbortOnDropHandle::new(tokio::spawn(async move {
        // `serve` only returns on a graceful shutdown, which is not asked for.
        let _ = axum::serve(listener, router).await;
    }))
}

fn reads(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// end-1: whether this is such a registry.
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
        // Content that cannot be served was told where it was read.
        if refusal.status != StatusCode::INTERNAL_SERVER_ERROR {
            port.served.complaints.tell(&refusal.message);
        }
        refusal.into_response()
    })
}
