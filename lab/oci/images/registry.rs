//! Fetches images from registries into the cache.

use std::{
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures::FutureExt;
use lab_model::Digest;
use oci_client::{
    Reference,
    manifest::{
        IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
        OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest, OciManifest,
    },
};

use super::{
    cache::{FetchCache, LastSeen},
    content::ImageFiles,
    error::OciError,
    exchange::{Exchange, ExchangeError, Login, Reach},
    image::{NESTING, for_arm64},
    layout::blob_name,
    names,
};

/// The accepted media types for a reference.
const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
];
/// An image with all parts in the cache.
pub(super) struct Fetched {
    /// The digest of the referenced manifest or index.
    pub(super) digest: Digest,
    /// A note for the user about the source of the image.
    pub(super) note: Option<String>,
}

/// Fetches all parts of the arm64 image of `reference` into the cache. A reference with a digest needs no
/// network if its parts are in the cache. For a tag, the function requests the current digest. If the
/// registry is unreachable, it uses the last known digest.
pub(super) async fn fetch(reference: &Reference, cache: &FetchCache) -> Result<Fetched, OciError> {
    // What a registry sends goes through many parsers. A fault in one of them is a fault of the image.
    let fetched = std::panic::AssertUnwindSafe(fetch_parts(reference, cache)).catch_unwind().await;
    fetched.unwrap_or_else(|_| {
        let why = "a reader of images panicked; please report the image".to_owned();
        Err(OciError::Damaged { within: reference.whole(), part: "the registry's answer".into(), why })
    })
}

async fn fetch_parts(reference: &Reference, cache: &FetchCache) -> Result<Fetched, OciError> {
    let registry = RegistryClient::new(reference, cache, Access::OfTheUser)?;
    if let Some(digest) = reference.digest().and_then(Digest::parse)
        && cache.layout.has(&digest)
        && registry.parts(reference, &digest).await.is_ok()
    {
        return Ok(Fetched { digest, note: None });
    }
    match registry.top(reference).await {
        Ok(digest) => {
            registry.parts(reference, &digest).await?;
            let seen = LastSeen {
                reference: reference.whole(),
                digest: digest.to_string(),
                at: jiff::Timestamp::now(),
            };
            cache.note(&seen)?;
            Ok(Fetched { digest, note: None })
        }
        Err(OciError::Unreachable { reference: whole, said }) => {
            let seen = cache.last_seen(&whole);
            let known = seen
                .as_ref()
                .and_then(|seen| Digest::parse(&seen.digest))
                .filter(|digest| cache.layout.has(digest));
            let (Some(seen), Some(digest)) = (seen, known) else {
                return Err(OciError::Unreachable { reference: whole, said });
            };
            registry.parts(reference, &digest).await?;
            let note = format!(
                "its registry could not be reached ({said}); this is what the tag named at {}",
                seen.at.strftime("%Y-%m-%d %H:%M")
            );
            Ok(Fetched { digest, note: Some(note) })
        }
        Err(OciError::NotInRegistry { reference: whole, said, .. }) => {
            let elsewhere = registry.elsewhere(reference).await;
            Err(OciError::NotInRegistry { reference: whole, said, elsewhere })
        }
        Err(error) => Err(error),
    }
}

/// Returns all parts of an arm64 image except its manifests. `digest` is the manifest or an
/// index. Fetches manifests that are not in the cache.
pub(super) async fn image_parts(
    reference: &Reference,
    digest: &Digest,
    cache: &FetchCache,
    access: Access,
) -> Result<Vec<Part>, OciError> {
    let manifest = RegistryClient::new(reference, cache, access)?.image(reference, digest).await?;
    parts_of(&manifest).map(|part| Part::of(reference, part)).collect()
}

/// On whose behalf a registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The user named the reference: with the user's credentials, on every host.
    OfTheUser,
    /// A guest asked: without credentials unless the user allowed them for this host.
    OfAGuest { credentials: bool, reach: Reach },
}

/// A part of an image: its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) digest: Digest,
    /// The size that the image promises, if it is known.
    pub(super) size: Option<u64>,
}

impl Part {
    pub(super) fn of(reference: &Reference, part: &OciDescriptor) -> Result<Self, OciError> {
        let size = u64::try_from(part.size).map_err(|_| {
            let why = format!("it claims {} bytes", part.size);
            OciError::Damaged { within: reference.whole(), part: part.digest.clone(), why }
        })?;
        Ok(Self { digest: parsed(reference, &part.digest)?, size: Some(size) })
    }
}

/// A client for the registry of one reference.
pub(super) struct RegistryClient {
    pub(super) exchange: Exchange,
    cache: FetchCache,
}

impl RegistryClient {
    pub(super) fn new(reference: &Reference, cache: &FetchCache, access: Access) -> Result<Self, OciError> {
        let (login, reach) = match access {
            Access::OfTheUser => (credentials(reference)?, Reach::Any),
            Access::OfAGuest { credentials: true, reach } => (credentials(reference)?, reach),
            Access::OfAGuest { credentials: false, reach } => (Login::Anonymous, reach),
        };
        let host = reference.resolve_registry();
        let exchange = Exchange::new(host, login, reach)
            .map_err(|error| OciError::Unreachable { reference: reference.whole(), said: error.text() })?;
        Ok(Self { exchange, cache: cache.clone() })
    }

    /// Fetches and stores the referenced manifest or index.
    pub(super) async fn top(&self, reference: &Reference) -> Result<Digest, OciError> {
        let bytes = self.manifest_bytes(reference).await.map_err(|error| self.failed(reference, error))?;
        let digest = Digest::of_bytes(&bytes);
        match reference.digest().and_then(Digest::parse) {
            Some(promised) if promised != digest => Err(OciError::Damaged {
                within: reference.whole(),
                part: "manifest".into(),
                why: format!("the registry answered with {digest}"),
            }),
            _ => Ok(self.cache.layout.put_blob(&bytes)?),
        }
    }

    async fn manifest_bytes(&self, reference: &Reference) -> Result<Vec<u8>, ExchangeError> {
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        self.exchange.manifest(reference.repository(), wanted, &ACCEPTED.join(", ")).await
    }

    /// Fetches the parts of the image `digest` that are not in the cache.
    async fn parts(&self, reference: &Reference, digest: &Digest) -> Result<(), OciError> {
        for part in parts_of(&self.image(reference, digest).await?) {
            self.part(reference, &Part::of(reference, part)?).await?;
        }
        Ok(())
    }

    /// Returns the manifest of the arm64 image. `digest` is the manifest or an index.
    pub(super) async fn image(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<OciImageManifest, OciError> {
        let mut digest = digest.clone();
        for _ in 0..=NESTING {
            match self.manifest(reference, &digest)? {
                OciManifest::ImageIndex(index) => {
                    let entry = for_arm64(&reference.whole(), index.manifests)?;
                    let inner = reference.clone_with_digest(entry.digest.clone());
                    digest = match Digest::parse(&entry.digest).filter(|digest| self.cache.layout.has(digest))
                    {
                        Some(known) => known,
                        None => self.top(&inner).await?,
                    };
                }
                OciManifest::Image(manifest) => return Ok(manifest),
            }
        }
        let why = "indexes of indexes of indexes of indexes".into();
        Err(OciError::Damaged { within: reference.whole(), part: digest.to_string(), why })
    }

    fn manifest(&self, reference: &Reference, digest: &Digest) -> Result<OciManifest, OciError> {
        ImageFiles::directory(self.cache.layout.directory()).json(&blob_name(digest), Some(digest)).map_err(
            |error| match error {
                OciError::Damaged { part, why, .. } => {
                    OciError::Damaged { within: reference.whole(), part, why }
                }
                other => other,
            },
        )
    }

    /// Fetches a blob if it is not in the cache.
    pub(super) async fn part(&self, reference: &Reference, part: &Part) -> Result<(), OciError> {
        if self.cache.layout.has(&part.digest) {
            return Ok(());
        }
        let file = self.cache.layout.begin()?;
        let path = file.path().to_owned();
        let mut out = tokio::fs::File::create(&path).await.map_err(OciError::file("write", &path))?;
        let fetched = self.exchange.blob(reference.repository(), &part.digest, part.size, &mut out).await;
        fetched.map_err(|error| match error {
            ExchangeError::File(error) => OciError::file("write", &path)(error),
            error => self.failed(reference, error),
        })?;
        Ok(self.cache.layout.keep(file, &part.digest)?)
    }

    /// Returns a message with another known name of the image.
    async fn elsewhere(&self, reference: &Reference) -> String {
        for other in names::others(reference) {
            if self.manifest_bytes(&other).await.is_ok() {
                return format!(", but it has {other}: use that name if it is the same image");
            }
        }
        String::new()
    }

    pub(super) fn failed(&self, reference: &Reference, error: ExchangeError) -> OciError {
        let (whole, said) = (reference.whole(), error.text());
        match error {
            ExchangeError::Unreachable(_) => OciError::Unreachable { reference: whole, said },
            ExchangeError::Missing(_) => {
                OciError::NotInRegistry { reference: whole, elsewhere: String::new(), said }
            }
            ExchangeError::Refused(_) => OciError::Refused {
                reference: whole,
                registry: reference.registry().to_owned(),
                anonymous: self.exchange.is_anonymous(),
                said,
            },
            ExchangeError::Wrong(_) | ExchangeError::File(_) => {
                OciError::Damaged { within: whole, part: "the registry's answer".into(), why: said }
            }
        }
    }
}

/// Returns all parts of an image except its manifest.
fn parts_of(manifest: &OciImageManifest) -> impl Iterator<Item = &OciDescriptor> {
    std::iter::once(&manifest.config).chain(&manifest.layers)
}

fn parsed(reference: &Reference, digest: &str) -> Result<Digest, OciError> {
    Digest::parse(digest).ok_or_else(|| {
        let why = "it is not a sha256 digest".into();
        OciError::Damaged { within: reference.whole(), part: digest.to_owned(), why }
    })
}

/// Returns the credentials in the docker configuration for the registry of a reference.
fn credentials(reference: &Reference) -> Result<Login, OciError> {
    let directory = std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let Some(path) = directory.map(|directory| directory.join("config.json")) else {
        return Ok(Login::Anonymous);
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Login::Anonymous),
        opened => opened.map_err(OciError::file("open", &path))?,
    };
    let (registry, host) = (reference.registry(), reference.resolve_registry());
    // The name of Docker Hub differs from its host name. Docker stores its credentials under the address of
    // the version 1 API.
    let key = if host == registry { host.to_owned() } else { format!("https://{host}/v1/") };
    match docker_credential::get_credential_from_reader(BufReader::new(file), &key) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Login::Password { user, password }),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Login::Token(token)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(Login::Anonymous),
        // All helpers return this text for an unknown registry (docker-credential-helpers).
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(Login::Anonymous)
        }
        Err(error) => Err(OciError::Credentials { registry: registry.to_owned(), why: error.to_string() }),
    }
}
