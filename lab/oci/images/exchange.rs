//! Requests to a registry (OCI distribution specification v1.1) in which everything is bounded: the sizes of answers, of
//! tokens and of blobs, the number of redirects, and the time. A registry is a stranger.
//!
//! Authentication follows Docker's token specification: a registry that answers 401 names a token service and a scope.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lab_model::{
    Digest,
    network::{is_public, may_be_public},
    visible,
    words::chain,
};
use reqwest::{
    Client, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
    redirect,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Mutex,
};

use super::{content::TEXT_LIMIT, layout::INDEX_TYPE};

/// Time limit for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Time limit for the next bytes of an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// Time limit for a whole manifest or token.
const SMALL: Duration = Duration::from_secs(60);
/// The slowest transfer of a blob that is waited for, in bytes per second.
const SLOWEST: u64 = 64 << 10;
/// The largest blob that is fetched, in bytes; layers of node images have less than one gigabyte.
const LARGEST_BLOB: u64 = 8 << 30;
/// The largest answer of a token service, in bytes. Its token becomes a header.
const LARGEST_TOKEN: u64 = 64 << 10;
/// The largest answer with an error that is read, in bytes.
const LARGEST_ERROR: u64 = 16 << 10;
/// The longest text of an error that is shown, in characters.
const SHOWN: usize = 400;
const REDIRECTS: usize = 5;

/// Credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Anonymous,
    Password { user: String, password: String },
    Token(String),
}

/// The hosts that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every host: the user named the reference.
    Any,
    /// Hosts of the public internet: a guest named the repository.
    Public,
}

/// The reason why content is not available.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// No answer, or none in time.
    Unreachable(String),
    /// The registry does not have it.
    Missing(String),
    /// The registry does not allow it.
    Refused(String),
    /// The answer is not what the specification allows, or exceeds a limit.
    Wrong(String),
    /// The blob cannot be written.
    File(std::io::Error),
}

impl ExchangeError {
    /// The cause, as text to show.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Unreachable(text) | Self::Missing(text) | Self::Refused(text) | Self::Wrong(text) => {
                visible(text, SHOWN)
            }
            Self::File(error) => error.to_string(),
        }
    }
}

impl From<reqwest::Error> for ExchangeError {
    fn from(error: reqwest::Error) -> Self {
        let said = chain(&error);
        if error.is_connect() || error.is_timeout() { Self::Unreachable(said) } else { Self::Wrong(said) }
    }
}

/// A client of one registry.
pub(super) struct Exchange {
    client: Client,
    /// The scheme and host of the registry.
    base: String,
    reach: Reach,
    login: Login,
    /// Time limit for a whole manifest or token.
    small: Duration,
    /// The authorization of the last scope.
    authorization: Mutex<Option<(String, HeaderValue)>>,
}

/// An error of a registry (OCI distribution specification, "Error Codes").
#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Exchange {
    /// Creates a client for the registry at `host`. Does not connect.
    pub(super) fn new(host: &str, login: Login, reach: Reach) -> Result<Self, ExchangeError> {
        // Another part of the process may have installed the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Like docker, use plain HTTP for registries on this host.
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let loopback = name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let base = format!("{}://{host}", if loopback { "http" } else { "https" });
        let follow = redirect::Policy::custom(move |attempt| match refuse(attempt.url(), reach) {
            Some(why) => attempt.error(why),
            None if attempt.previous().len() > REDIRECTS => attempt.error("too many redirects"),
            None => attempt.follow(),
        });
        let mut client = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(follow)
            .user_agent(concat!("lab/", env!("CARGO_PKG_VERSION")));
        // A proxy resolves names itself, and its own name may be private.
        if reach == Reach::Public && !has_proxy() {
            client = client.dns_resolver(Arc::new(PublicAddresses));
        }
        let client = client.build()?;
        Ok(Self { client, base, reach, login, small: SMALL, authorization: Mutex::default() })
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.login == Login::Anonymous
    }

    /// Fetches a manifest or an index.
    pub(super) async fn manifest(
        &self,
        repository: &str,
        reference: &str,
        accept: &str,
    ) -> Result<Vec<u8>, ExchangeError> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let whole = async {
            let mut answer = self.get(repository, &path, accept).await?;
            body(&mut answer, TEXT_LIMIT, "a manifest").await
        };
        within(self.small, whole).await
    }

    /// Fetches the index of the manifests that refer to a manifest (OCI distribution specification v1.1, "Listing
    /// Referrers").
    pub(super) async fn referrers(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Vec<u8>, ExchangeError> {
        let path = format!("/v2/{repository}/referrers/{digest}");
        let whole = async {
            let mut answer = self.get(repository, &path, INDEX_TYPE).await?;
            body(&mut answer, TEXT_LIMIT, "a list of referrers").await
        };
        within(self.small, whole).await
    }

    /// Fetches a blob of `size` bytes, if its size is known, into `out`, and verifies its digest.
    pub(super) async fn blob(
        &self,
        repository: &str,
        digest: &Digest,
        size: Option<u64>,
        out: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), ExchangeError> {
        let limit = size.unwrap_or(LARGEST_BLOB);
        if limit > LARGEST_BLOB {
            let most = LARGEST_BLOB >> 30;
            let why = format!("{digest} claims {limit} bytes; the lab fetches at most {most} GiB");
            return Err(ExchangeError::Wrong(why));
        }
        let path = format!("/v2/{repository}/blobs/{digest}");
        let whole = async {
            let mut answer = self.get(repository, &path, "*/*").await?;
            let (mut hasher, mut read) = (Sha256::new(), 0_u64);
            while let Some(chunk) = answer.chunk().await? {
                read += chunk.len() as u64;
                if read > limit {
                    let why = format!("{digest} has more than the {limit} bytes that its image promises");
                    return Err(ExchangeError::Wrong(why));
                }
                hasher.update(&chunk);
                out.write_all(&chunk).await.map_err(ExchangeError::File)?;
            }
            out.flush().await.map_err(ExchangeError::File)?;
            let found = Digest::of_hash(hasher);
            if found != *digest {
                return Err(ExchangeError::Wrong(format!("the registry sent {found} for {digest}")));
            }
            Ok(())
        };
        within(self.small + Duration::from_secs(limit / SLOWEST), whole).await
    }

    /// Sends a request, with a token if the registry asks for one.
    async fn get(&self, repository: &str, path: &str, accept: &str) -> Result<Response, ExchangeError> {
        let scope = format!("repository:{repository}:pull");
        let known = self.authorization.lock().await.clone();
        let known = known.filter(|(of, _)| *of == scope).map(|(_, header)| header);
        let url = self.url(&format!("{}{path}", self.base))?;
        let answer = self.send(&url, accept, known).await?;
        let answer = if answer.status() == StatusCode::UNAUTHORIZED {
            let header = self.authorize(&answer, &scope).await?;
            *self.authorization.lock().await = Some((scope, header.clone()));
            self.send(&url, accept, Some(header)).await?
        } else {
            answer
        };
        if answer.status().is_success() { Ok(answer) } else { Err(failure(answer).await) }
    }

    async fn send(
        &self,
        url: &Url,
        accept: &str,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, ExchangeError> {
        let mut request = self.client.get(url.clone()).header(ACCEPT, accept);
        if let Some(header) = authorization {
            request = request.header(AUTHORIZATION, header);
        }
        Ok(request.send().await?)
    }

    /// Returns the authorization that the answer 401 demands.
    async fn authorize(&self, answer: &Response, scope: &str) -> Result<HeaderValue, ExchangeError> {
        let header = answer.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(challenge) = header.and_then(Challenge::parse) else {
            let why = "it answered 401 without naming a token service".to_owned();
            return Err(ExchangeError::Refused(why));
        };
        match (&self.login, challenge) {
            (Login::Token(token), _) => bearer(token),
            (Login::Password { user, password }, Challenge::Basic) => {
                let request = self.client.get(&self.base).basic_auth(user, Some(password)).build()?;
                let header = request.headers().get(AUTHORIZATION).cloned();
                header.ok_or_else(|| ExchangeError::Wrong("the login is not a header".into()))
            }
            (Login::Anonymous, Challenge::Basic) => {
                Err(ExchangeError::Refused("it asks for a user and a password".into()))
            }
            (login, Challenge::Bearer { realm, service }) => {
                let mut url = self.url(&realm)?;
                if self.base.starts_with("https:") && url.scheme() != "https" {
                    let why = format!("its token service {realm} is not https");
                    return Err(ExchangeError::Wrong(why));
                }
                url.query_pairs_mut().append_pair("service", &service).append_pair("scope", scope);
                let mut request = self.client.get(url).timeout(self.small);
                if let Login::Password { user, password } = login {
                    request = request.basic_auth(user, Some(password));
                }
                let mut answer = request.send().await?;
                if !answer.status().is_success() {
                    let error = failure(answer).await;
                    return Err(ExchangeError::Refused(format!("its token service: {}", error.text())));
                }
                let text = body(&mut answer, LARGEST_TOKEN, "an answer of a token service").await?;
                let answer: Option<TokenAnswer> = serde_json::from_slice(&text).ok();
                match answer.and_then(|answer| answer.token.or(answer.access_token)) {
                    Some(token) => bearer(&token),
                    None => Err(ExchangeError::Wrong("its token service sent no token".into())),
                }
            }
        }
    }

    /// Parses a URL, and refuses URLs that the lab must not request.
    fn url(&self, text: &str) -> Result<Url, ExchangeError> {
        let url = Url::parse(text)
            .map_err(|error| ExchangeError::Wrong(format!("\"{text}\" is not a URL: {error}")))?;
        match refuse(&url, self.reach) {
            Some(why) => Err(ExchangeError::Refused(why)),
            None => Ok(url),
        }
    }
}

/// The reason why a URL is not asked.
fn refuse(url: &Url, reach: Reach) -> Option<String> {
    let host = url.host_str().unwrap_or_default();
    if !["http", "https"].contains(&url.scheme()) {
        return Some(format!("it leads to {}, which is not http or https", url.scheme()));
    }
    (reach == Reach::Public && !may_be_public(host))
        .then(|| format!("{host} is not on the public internet, and images for guests come from there only"))
}

fn has_proxy() -> bool {
    let named = |name: &str| [name.to_owned(), name.to_lowercase()];
    let names = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"].into_iter().flat_map(named);
    names.into_iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// A resolver whose names have only public addresses.
struct PublicAddresses;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                let why = format!("{} has no address on the public internet", name.as_str());
                return Err(std::io::Error::other(why).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

fn bearer(token: &str) -> Result<HeaderValue, ExchangeError> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| ExchangeError::Wrong("the token has characters that no header may have".into()))?;
    header.set_sensitive(true);
    Ok(header)
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ExchangeError>>,
) -> Result<T, ExchangeError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let seconds = limit.as_secs();
        Err(ExchangeError::Unreachable(format!("it did not send the whole answer within {seconds} s")))
    })
}

async fn body(answer: &mut Response, limit: u64, what: &str) -> Result<Vec<u8>, ExchangeError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            let why = format!("{what} has more than {} KiB", limit >> 10);
            return Err(ExchangeError::Wrong(why));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The meaning of an answer with another status than success.
async fn failure(mut answer: Response) -> ExchangeError {
    let status = answer.status();
    let text = body(&mut answer, LARGEST_ERROR, "an error").await.unwrap_or_default();
    let errors = serde_json::from_slice::<Errors>(&text).map(|errors| errors.errors).unwrap_or_default();
    let any = |codes: &[&str]| errors.iter().any(|error| codes.contains(&error.code.as_str()));
    let told: Vec<_> = errors
        .iter()
        .take(3)
        .map(|error| match &error.message {
            Some(message) => format!("{}: {message}", error.code),
            None => error.code.clone(),
        })
        .collect();
    let said = if told.is_empty() { status.to_string() } else { format!("{status}: {}", told.join("; ")) };
    if any(&["DENIED", "UNAUTHORIZED"]) || [401, 403].contains(&status.as_u16()) {
        ExchangeError::Refused(said)
    } else if any(&["BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"]) || status == 404 {
        ExchangeError::Missing(said)
    } else {
        ExchangeError::Wrong(said)
    }
}

/// How a registry wants to be authorized (RFC 9110, section 11.6.1).
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: String },
}

impl Challenge {
    fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, String::new());
        let mut rest = rest.trim_start();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => value.clone_into(&mut service),
                _ => {}
            }
            rest = after.trim_start_matches([',', ' ']);
        }
        realm.map(|realm| Self::Bearer { realm, service })
    }
}

/// Reads a challenge, for the fuzz targets alone.
#[doc(hidden)]
pub fn challenge(header: &str) {
    let _ = Challenge::parse(header);
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
