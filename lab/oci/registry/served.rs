//! Responses of each endpoint, with content from the store.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, Read},
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use lab_model::Digest;
use serde_json::json;
use tokio::sync::watch;

use super::{
    complaints::Complaints,
    content::{self, Part},
    manifest::{self, ServedManifest},
    proof::Proofs,
    refusal::{Code, Refusal},
    request::{Target, Wanted},
    store::Store,
    upstreams::Upstreams,
};
use crate::images::index_of;

/// Maximum number of missing images to remember.
const MISSING: usize = 100;

/// The served content, shared by all ports.
pub(super) struct Served {
    pub(super) store: Store,
    pub(super) complaints: Complaints,
    pub(super) bytes: AtomicU64,
    /// The images that clients asked for by tag and that the mirror lacks.
    pub(super) missing: watch::Sender<BTreeSet<String>>,
    /// The repositories whose manifests wait.
    pub(super) held: watch::Sender<BTreeSet<String>>,
    upstreams: Option<Upstreams>,
    proofs: Proofs,
}

/// A request for content.
pub(super) struct ContentRequest<'a> {
    /// GET or HEAD.
    pub(super) method: &'a Method,
    /// The upstream registry of the request.
    pub(super) upstream: &'a str,
    pub(super) target: Target<'a>,
    pub(super) query: &'a HashMap<String, String>,
    pub(super) headers: &'a HeaderMap,
}

/// The reason content is not available.
enum Lack {
    /// No layout has the content.
    Missing,
    /// The content exists but cannot be served. Contains the cause.
    Unusable(String),
}

impl Served {
    pub(super) fn new(store: Store, upstreams: Option<Upstreams>, complaints: Complaints) -> Self {
        Self {
            store,
            complaints,
            bytes: AtomicU64::new(0),
            missing: watch::Sender::default(),
            held: watch::Sender::default(),
            upstreams,
            proofs: Proofs::default(),
        }
    }

    pub(super) async fn answer(&self, request: ContentRequest<'_>) -> Result<Response, Refusal> {
        match &request.target {
            Target::Blob { repository, digest } => self.blob(&request, repository, digest).await,
            Target::Manifest { repository, reference } => {
                self.manifest(&request, repository, reference).await
            }
            Target::Tags { repository } => self.tags(&request, repository),
            Target::Referrers { digest } => Ok(self.referrers(&request, digest).await),
        }
    }

    async fn blob(
        &self,
        request: &ContentRequest<'_>,
        repository: &str,
        digest: &Digest,
    ) -> Result<Response, Refusal> {
        let name = format!("{}/{repository}@{digest}", request.upstream);
        let lacking = |lack| self.refusal(lack, Code::BlobUnknown, &name);
        let file = match (self.file(digest).await, &self.upstreams) {
            (Ok(file), _) => file,
            (Err(lack), None) => return Err(lacking(lack)),
            (Err(_), Some(upstreams)) => {
                upstreams.blob(request.upstream, &name, digest).await?;
                self.file(digest).await.map_err(lacking)?
            }
        };
        let unreadable = |error| self.refusal(Lack::read(digest, &error), Code::BlobUnknown, &name);
        let length = file.metadata().map_err(unreadable)?.len();
        let part = Part::of(request.method, request.headers, length);
        let mut response = content::of_file(file, part, request.method).await.map_err(unreadable)?;
        self.count(request.method, part.bounds(length).map_or(0, |(start, end)| end - start));
        describe(&mut response, "application/octet-stream", digest);
        Ok(response)
    }

    async fn manifest(
        &self,
        request: &ContentRequest<'_>,
        repository: &str,
        reference: &Wanted<'_>,
    ) -> Result<Response, Refusal> {
        let held = format!("{}/{repository}", request.upstream);
        // The sender lives as long as this.
        let _ = self.held.subscribe().wait_for(|repositories| !repositories.contains(&held)).await;
        let by_digest = |digest: &Digest| format!("{}/{repository}@{digest}", request.upstream);
        let (name, known) = match reference {
            Wanted::Digest(digest) => (by_digest(digest), Some(digest)),
            Wanted::Tag(tag) => {
                let name = format!("{}/{repository}:{tag}", request.upstream);
                let known = self.store.manifest(&name);
                (name, known)
            }
        };
        let lacking = |lack| self.refusal(lack, Code::ManifestUnknown, &name);
        let here = match known {
            Some(digest) => self.read(digest).await.map(|found| (digest.clone(), found)),
            None => Err(Lack::Missing),
        };
        let (digest, (manifest, bytes)) = match (here, &self.upstreams) {
            (Ok(found), _) => found,
            (Err(lack), None) => {
                if let (Lack::Missing, Wanted::Tag(_)) = (&lack, reference) {
                    self.note_missing(&name);
                }
                return Err(lacking(lack));
            }
            (Err(_), Some(upstreams)) => {
                // Do not resolve a tag again if the mirror already knows it.
                let digest = match known {
                    Some(digest) => digest.clone(),
                    None => upstreams.manifest(request.upstream, &name).await?,
                };
                let found = match self.read(&digest).await {
                    Ok(found) => found,
                    Err(_) => {
                        upstreams.manifest(request.upstream, &by_digest(&digest)).await?;
                        self.read(&digest).await.map_err(lacking)?
                    }
                };
                (digest, found)
            }
        };
        self.count(request.method, bytes.len() as u64);
        let mut response = content::of_bytes(bytes, request.method);
        describe(&mut response, manifest.media_type(), &digest);
        Ok(response)
    }

    fn tags(&self, request: &ContentRequest<'_>, repository: &str) -> Result<Response, Refusal> {
        let name = format!("{}/{repository}", request.upstream);
        let Some(mut tags) = self.store.tags(&name) else {
            let message = format!("this registry has no image of {name}");
            return Err(Refusal::not_found(Code::NameUnknown, message));
        };
        if let Some(last) = request.query.get("last") {
            let key = |tag: &str| (tag.to_lowercase(), tag.to_owned());
            tags.retain(|tag| key(tag) > key(last));
        }
        if let Some(n) = request.query.get("n") {
            let Ok(n) = n.parse() else {
                let message = format!("n is \"{n}\" and must be a whole number");
                return Err(Refusal { status: StatusCode::BAD_REQUEST, code: Code::Unsupported, message });
            };
            tags.truncate(n);
        }
        let json_type = [(header::CONTENT_TYPE, "application/json")];
        Ok((json_type, json!({ "name": repository, "tags": tags }).to_string()).into_response())
    }

    async fn referrers(&self, request: &ContentRequest<'_>, subject: &Digest) -> Response {
        let wanted = request.query.get("artifactType");
        let mut found = Vec::new();
        for digest in self.store.listed() {
            // Skip damaged manifests. A request for the manifest reports the damage.
            let Ok((manifest, bytes)) = self.read(digest).await else { continue };
            let fits = wanted.is_none_or(|wanted| manifest.artifact_type() == Some(wanted.as_str()));
            if fits && manifest.refers_to(subject) {
                found.push(manifest.descriptor(digest, bytes.len()));
            }
        }
        let media_type = [(header::CONTENT_TYPE, oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE)];
        let mut response = (media_type, index_of(&found).to_string()).into_response();
        if wanted.is_some() {
            let filters = HeaderValue::from_static("artifactType");
            response.headers_mut().insert("oci-filters-applied", filters);
        }
        response
    }

    /// Returns the verified file with the content of `digest`, from the first layout with an intact copy.
    async fn file(&self, digest: &Digest) -> Result<File, Lack> {
        let mut lack = Lack::Missing;
        for path in self.store.files(digest) {
            let looked = async {
                let mut file = File::open(&path)?;
                let found = self.proofs.digest_of(&mut file).await?;
                Ok::<_, io::Error>((file, found))
            };
            lack = Lack::Unusable(match looked.await {
                Ok((file, found)) if found == *digest => return Ok(file),
                Ok((_, found)) => format!(
                    "{} is damaged: its content has {found}; delete it and fetch its image again, with `lab mirror \
                     pull` or `make images`",
                    path.display()
                ),
                Err(error) => format!("read {}: {error}", path.display()),
            });
            if let Lack::Unusable(why) = &lack {
                self.complaints.tell(why);
            }
        }
        Err(lack)
    }

    /// Reads a manifest and returns it with its bytes.
    async fn read(&self, digest: &Digest) -> Result<(ServedManifest, Vec<u8>), Lack> {
        let file = self.file(digest).await?;
        let mut bytes = Vec::new();
        let read = file.take(manifest::LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| Lack::read(digest, &error))?;
        let manifest =
            (bytes.len() as u64 <= manifest::LIMIT).then(|| ServedManifest::parse(&bytes)).flatten();
        // The registry treats a blob in another format as a missing manifest.
        manifest.map(|manifest| (manifest, bytes)).ok_or(Lack::Missing)
    }

    fn refusal(&self, lack: Lack, code: Code, name: &str) -> Refusal {
        match lack {
            Lack::Missing => {
                let message = format!(
                    "{name} is not in the mirror; while the host is online, fetch it with `lab mirror pull`, or use \
                     --pull-through"
                );
                Refusal::not_found(code, message)
            }
            Lack::Unusable(why) => {
                self.complaints.tell(&why);
                Refusal::failure(format!("{name} cannot be served: {why}"))
            }
        }
    }

    /// Remembers a missing image. The number is bounded, because clients choose the names.
    fn note_missing(&self, name: &str) {
        self.missing.send_if_modified(|missing| missing.len() < MISSING && missing.insert(name.to_owned()));
    }

    fn count(&self, method: &Method, bytes: u64) {
        if *method == Method::GET {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

impl Lack {
    fn read(digest: &Digest, error: &io::Error) -> Self {
        Self::Unusable(format!("read the content of {digest}: {error}"))
    }
}

fn describe(response: &mut Response, media_type: &str, digest: &Digest) {
    let headers = response.headers_mut();
    for (name, value) in
        [("content-type", media_type.to_owned()), ("docker-content-digest", digest.to_string())]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}
