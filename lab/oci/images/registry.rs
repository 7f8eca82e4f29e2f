//! Fetches images from registries into the cache.

use std::{
    fs::File,
    io::{self, BufReader},
    path::PathBuf,
};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use lab_model::{Digest, words::chain};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    manifest::{
        IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
        OCI_IMAGE_MEDIA_TYPE, OciImageManifest, OciManifest,
    },
    secrets::RegistryAuth,
};

use super::{
    cache::{FetchCache, LastSeen},
    content::ImageFiles,
    error::OciError,
    image::for_arm64,
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
/// Read timeout for a registry.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// Connect timeout for a registry.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(10);

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
    let registry = RegistryClient::new(reference, cache)?;
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

/// Returns the digests of all parts of an arm64 image except its manifests. `digest` is the manifest or an
/// index. Fetches manifests that are not in the cache.
pub(super) async fn image_parts(
    reference: &Reference,
    digest: &Digest,
    cache: &FetchCache,
) -> Result<Vec<Digest>, OciError> {
    let manifest = RegistryClient::new(reference, cache)?.image(reference, digest).await?;
    parts_of(&manifest).map(|part| parsed(reference, part)).collect()
}

/// A client for the registry of one reference.
pub(super) struct RegistryClient<'a> {
    client: Client,
    auth: RegistryAuth,
    cache: &'a FetchCache,
}

impl<'a> RegistryClient<'a> {
    pub(super) fn new(reference: &Reference, cache: &'a FetchCache) -> Result<Self, OciError> {
        // Another part of the process may have installed the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = reference.resolve_registry();
        // Like docker, use plain HTTP for registries on this host.
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let loopback = name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let protocol = if loopback { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            read_timeout: Some(SILENCE),
            connect_timeout: Some(CONNECT),
            user_agent: concat!("lab/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        Ok(Self { client: Client::new(config), auth: credentials(reference)?, cache })
    }

    /// Fetches and stores the referenced manifest or index.
    pub(super) async fn top(&self, reference: &Reference) -> Result<Digest, OciError> {
        let pulled = self.client.pull_manifest_raw(reference, &self.auth, &ACCEPTED).await;
        let (bytes, _) = pulled.map_err(|error| self.failed(reference, &error))?;
        let digest = self.cache.layout.put_blob(&bytes)?;
        match reference.digest().and_then(Digest::parse) {
            Some(promised) if promised != digest => Err(OciError::Damaged {
                within: reference.whole(),
                part: "manifest".into(),
                why: format!("the registry answered with {digest}"),
            }),
            _ => Ok(digest),
        }
    }

    /// Fetches the parts of the image `digest` that are not in the cache.
    async fn parts(&self, reference: &Reference, digest: &Digest) -> Result<(), OciError> {
        for part in parts_of(&self.image(reference, digest).await?) {
            self.part(reference, part).await?;
        }
        Ok(())
    }

    /// Returns the manifest of the arm64 image. `digest` is the manifest or an index.
    async fn image(&self, reference: &Reference, digest: &Digest) -> Result<OciImageManifest, OciError> {
        let mut digest = digest.clone();
        loop {
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
    pub(super) async fn part(&self, reference: &Reference, part: &str) -> Result<(), OciError> {
        let digest = parsed(reference, part)?;
        if self.cache.layout.has(&digest) {
            return Ok(());
        }
        self.client.store_auth_if_needed(reference.resolve_registry(), &self.auth).await;
        let file = self.cache.layout.begin()?;
        let path = file.path().to_owned();
        let out = tokio::fs::File::create(&path).await.map_err(OciError::file("write", &path))?;
        // `pull_blob` also verifies the digest.
        let pulled = self.client.pull_blob(reference, part, out).await;
        pulled.map_err(|error| self.failed(reference, &error))?;
        Ok(self.cache.layout.keep(file, &digest)?)
    }

    /// Returns a message with another known name of the image.
    async fn elsewhere(&self, reference: &Reference) -> String {
        for other in names::others(reference) {
            if self.client.pull_manifest_raw(&other, &self.auth, &ACCEPTED).await.is_ok() {
                return format!(", but it has {other}: use that name if it is the same image");
            }
        }
        String::new()
    }

    fn failed(&self, reference: &Reference, error: &OciDistributionError) -> OciError {
        let (whole, said) = (reference.whole(), chain(error));
        let refused = |said| OciError::Refused {
            reference: reference.whole(),
            registry: reference.registry().to_owned(),
            anonymous: self.auth == RegistryAuth::Anonymous,
            said,
        };
        let missing =
            |said| OciError::NotInRegistry { reference: reference.whole(), elsewhere: String::new(), said };
        match error {
            OciDistributionError::ImageManifestNotFoundError(_) => missing(said),
            OciDistributionError::ServerError { code: 404, .. } => missing(said),
            OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::UnauthorizedError { .. } => refused(said),
            OciDistributionError::RegistryError { envelope, .. } => {
                let codes: Vec<_> = envelope.errors.iter().map(|error| &error.code).collect();
                let any = |wanted: &[OciErrorCode]| codes.iter().any(|code| wanted.contains(code));
                if any(&[
                    OciErrorCode::BlobUnknown,
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    missing(said)
                } else if any(&[OciErrorCode::Denied, OciErrorCode::Unauthorized]) {
                    refused(said)
                } else {
                    OciError::Damaged { within: whole, part: "the registry's answer".into(), why: said }
                }
            }
            OciDistributionError::RequestError(error) if error.is_connect() || error.is_timeout() => {
                OciError::Unreachable { reference: whole, said }
            }
            _ => OciError::Damaged { within: whole, part: "the registry's answer".into(), why: said },
        }
    }
}

/// Returns the digests of all parts of an image except its manifest.
fn parts_of(manifest: &OciImageManifest) -> impl Iterator<Item = &str> {
    std::iter::once(&manifest.config).chain(&manifest.layers).map(|part| part.digest.as_str())
}

fn parsed(reference: &Reference, digest: &str) -> Result<Digest, OciError> {
    Digest::parse(digest).ok_or_else(|| {
        let why = "it is not a sha256 digest".into();
        OciError::Damaged { within: reference.whole(), part: digest.to_owned(), why }
    })
}

/// Returns the credentials in the docker configuration for the registry of a reference.
fn credentials(reference: &Reference) -> Result<RegistryAuth, OciError> {
    let directory = std::env::var_os("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    let Some(path) = directory.map(|directory| directory.join("config.json")) else {
        return Ok(RegistryAuth::Anonymous);
    };
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(RegistryAuth::Anonymous),
        opened => opened.map_err(OciError::file("open", &path))?,
    };
    let (registry, host) = (reference.registry(), reference.resolve_registry());
    // The name of Docker Hub differs from its host name. Docker stores its credentials under the address of
    // the version 1 API.
    let key = if host == registry { host.to_owned() } else { format!("https://{host}/v1/") };
    match docker_credential::get_credential_from_reader(BufReader::new(file), &key) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
        Ok(DockerCredential::IdentityToken(token)) => Ok(RegistryAuth::Bearer(token)),
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
        // All helpers return this text for an unknown registry (docker-credential-helpers).
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found") =>
        {
            Ok(RegistryAuth::Anonymous)
        }
        Err(error) => Err(OciError::Credentials { registry: registry.to_owned(), why: error.to_string() }),
    }
}
