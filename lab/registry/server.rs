//! The HTTP side: OCI distribution specification v1.1, "Pulling manifests" and "Pulling blobs".

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path as FsPath,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::{io::ReaderStream, task::AbortOnDropHandle};

use super::store::Store;

/// A running registry; stops when dropped.
pub struct Registry {
    address: SocketAddr,
    served: Arc<AtomicU64>,
    _server: AbortOnDropHandle<()>,
}

/// Why the registry does not run.
#[derive(Debug, thiserror::Error)]
#[error("open a port for the image registry on the loopback interface: {0}")]
pub struct RegistryError(#[from] std::io::Error);

struct Served {
    store: Store,
    bytes: Arc<AtomicU64>,
}

impl Registry {
    /// Serves `store` on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port can be opened.
    pub async fn start(store: Store) -> Result<Self, RegistryError> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let served = Arc::new(AtomicU64::new(0));
        let router = Router::new()
            .route("/v2/", get(|| async { StatusCode::OK }))
            .route("/v2/{*path}", get(pull))
            .with_state(Arc::new(Served { store, bytes: Arc::clone(&served) }));
        let server = tokio::spawn(async move {
            // `serve` only returns on a graceful shutdown, which is not asked for.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, served, _server: AbortOnDropHandle::new(server) })
    }

    /// Where it listens; guests reach the same port at the LAN's gateway address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of blobs and manifests sent so far.
    pub fn bytes_served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

/// A request path below `/v2/`: repository names contain slashes, so it is split by hand.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Manifest { repository: &'a str, reference: &'a str },
    Blob { digest: &'a str },
}

fn target(path: &str) -> Option<Target<'_>> {
    let (rest, last) = path.rsplit_once('/')?;
    if let Some(repository) = rest.strip_suffix("/manifests") {
        Some(Target::Manifest { repository, reference: last })
    } else {
        rest.strip_suffix("/blobs").map(|_| Target::Blob { digest: last })
    }
}

async fn pull(
    State(served): State<Arc<Served>>,
    method: Method,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    // The name of Docker Hub is the default upstream, as in containerd's resolver.
    let upstream = query.get("ns").map_or("docker.io", String::as_str);
    let found = match target(&path) {
        Some(Target::Manifest { repository, reference }) => {
            served.store.manifest(upstream, repository, reference).and_then(|descriptor| {
                let file = served.store.blob(&descriptor.digest)?;
                Some((file, descriptor.digest, descriptor.media_type))
            })
        }
        Some(Target::Blob { digest }) => served
            .store
            .blob(digest)
            .map(|file| (file, digest.to_owned(), "application/octet-stream".to_owned())),
        None => None,
    };
    let Some((file, digest, media_type)) = found else {
        tracing::info!(upstream, path, "image content asked for that is not there");
        return error(
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
            &format!("{upstream}/{path} is not in this registry"),
        );
    };
    match content(&served, &method, &file, &headers).await {
        Ok(mut response) => {
            let head = response.headers_mut();
            if let (Ok(digest), Ok(media_type)) = (digest.parse(), media_type.parse()) {
                head.insert("docker-content-digest", digest);
                head.insert(header::CONTENT_TYPE, media_type);
            }
            response
        }
        Err(source) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &format!("read {}: {source}", file.display()))
        }
    }
}

async fn content(
    served: &Served,
    method: &Method,
    file: &FsPath,
    headers: &HeaderMap,
) -> std::io::Result<Response> {
    let mut opened = tokio::fs::File::open(file).await?;
    let length = opened.metadata().await?.len();
    let range =
        headers.get(header::RANGE).and_then(|value| value.to_str().ok()).map(|text| range(text, length));
    let (status, start, end) = match range {
        None => (StatusCode::OK, 0, length),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => {
            return Ok((
                StatusCode::RANGE_NOT_SATISFIABLE,
                [(header::CONTENT_RANGE, format!("bytes */{length}"))],
            )
                .into_response());
        }
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, end - start)
        .header(header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        response = response
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{length}", end.saturating_sub(1)));
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        served.bytes.fetch_add(end - start, Ordering::Relaxed);
        opened.seek(std::io::SeekFrom::Start(start)).await?;
        Body::from_stream(ReaderStream::with_capacity(opened.take(end - start), 256 << 10))
    };
    response.body(body).map_err(std::io::Error::other)
}

/// The half-open byte range that a `Range` header asks for (RFC 9110 section 14.1.2, one range),
/// or `None` when it lies outside of the content.
fn range(header: &str, length: u64) -> Option<(u64, u64)> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.checked_add(1)?.min(length)),
        (Ok(first), Err(_)) if last.is_empty() => (first, length),
        (Err(_), Ok(suffix)) if first.is_empty() => (length.saturating_sub(suffix), length),
        _ => return None,
    };
    (start < end).then_some((start, end))
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_names_keep_their_slashes() {
        assert_eq!(
            target("coredns/coredns/manifests/v1.12.4"),
            Some(Target::Manifest { repository: "coredns/coredns", reference: "v1.12.4" })
        );
        assert_eq!(target("pause/blobs/sha256:00"), Some(Target::Blob { digest: "sha256:00" }));
        assert_eq!(target("pause/tags/list"), None);
    }

    #[test]
    fn ranges_follow_the_rfc() {
        assert_eq!(range("bytes=0-9", 100), Some((0, 10)));
        assert_eq!(range("bytes=90-", 100), Some((90, 100)));
        assert_eq!(range("bytes=-10", 100), Some((90, 100)));
        assert_eq!(range("bytes=0-999", 100), Some((0, 100)));
        assert_eq!(range("bytes=100-", 100), None);
        assert_eq!(range("bytes=5-4", 100), None);
        assert_eq!(range("lines=1-2", 100), None);
    }
}
