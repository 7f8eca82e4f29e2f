//! The local API of tailscaled: HTTP over its unix socket. The `tailscale` command uses the same API.
//!
//! Source: `ipn/localapi` and `client/local` of tailscale.com.

use std::{net::IpAddr, path::Path, time::Duration};

use lab_model::words::chain;
use reqwest::{Client, Method, Response, StatusCode, Upgraded, header};
use serde::de::DeserializeOwned;

use super::{
    TailnetError,
    certificate::tls_trusting,
    client_status::{ClientStatus, PingResult, Pong, Preferences},
};

/// The host name of requests from local clients. It distinguishes them from browsers.
const HOST: &str = "local-tailscaled.sock";
/// `NotifyInitialState | NotifyNoPrivateKeys`: send the current state immediately, and never send keys.
const WATCH_MASK: u64 = 1 << 1 | 1 << 4;
/// Time limit for a response from the same host.
const PATIENCE: Duration = Duration::from_secs(20);

/// The protocol of a connection through the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// The name of the network in Go's package `net`.
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The local API of one tailscaled.
#[derive(Clone)]
pub(super) struct LocalApi {
    client: String,
    http: Client,
}

/// A stream of change notifications.
pub(super) struct Changes(Response);

impl LocalApi {
    /// Connects to the API at `socket`. `client` is the name of the client in errors.
    pub fn new(client: &str, socket: &Path) -> Result<Self, TailnetError> {
        let failed = |problem: String| TailnetError::LocalApi {
            client: client.to_owned(),
            action: "speak HTTP",
            problem,
        };
        // The connection does not use TLS, but the client builder requires a TLS backend.
        let tls = tls_trusting(None).map_err(|error| failed(error.to_string()))?;
        let http = Client::builder()
            .unix_socket(socket)
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .build()
            .map_err(|error| failed(chain(&error)))?;
        Ok(Self { client: client.to_owned(), http })
    }

    pub async fn status(&self) -> Result<ClientStatus, TailnetError> {
        self.ask("read the status", Method::GET, "status", PATIENCE).await
    }

    pub async fn preferences(&self) -> Result<Preferences, TailnetError> {
        self.ask("read the preferences", Method::GET, "prefs", PATIENCE).await
    }

    /// Refuses or accepts packets of other nodes that the client did not ask for.
    pub async fn set_shields(&self, up: bool) -> Result<(), TailnetError> {
        let action = "set its shields";
        let request = self
            .http
            .patch(format!("http://{HOST}/localapi/v0/prefs"))
            .body(format!("{{\"ShieldsUp\":{up},\"ShieldsUpSet\":true}}"))
            .timeout(PATIENCE);
        let response = request.send().await.map_err(|error| self.failed(action, chain(&error)))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(self.failed(action, status.to_string())),
        }
    }

    /// Pings `address` once with a Tailscale packet (`disco`), or with `TSMP`, which also uses the
    /// encrypted tunnel.
    pub async fn ping(&self, address: IpAddr, kind: &str, patience: Duration) -> Result<Pong, TailnetError> {
        let path = format!("ping?ip={address}&type={kind}");
        let answer = tokio::time::timeout(patience, self.ask("ping", Method::POST, &path, PATIENCE)).await;
        let client = self.client.clone();
        let result: PingResult = answer.map_err(|_| TailnetError::NoPong { client, address })??;
        result.pong().map_err(|problem| self.failed("ping", format!("{address}: {problem}")))
    }

    /// Returns a stream with an item for each change of the client.
    pub async fn changes(&self) -> Result<Changes, TailnetError> {
        let path = format!("watch-ipn-bus?mask={WATCH_MASK}");
        Ok(Changes(self.send("watch", Method::GET, &path, None).await?))
    }

    /// Opens a connection to `host` as the client itself does, like `tailscale nc`. With UDP, each write becomes a
    /// datagram. The caller limits the time.
    pub async fn dial(&self, transport: Transport, host: &str, port: u16) -> Result<Upgraded, TailnetError> {
        let action = "connect";
        let failed = |problem: String| self.failed(action, format!("{host}:{port}: {problem}"));
        let request = self
            .http
            .post(format!("http://{HOST}/localapi/v0/dial"))
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "ts-dial")
            .header("Dial-Network", transport.name())
            .header("Dial-Host", host)
            .header("Dial-Port", port);
        let response = request.send().await.map_err(|error| failed(chain(&error)))?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {
                response.upgrade().await.map_err(|error| failed(chain(&error)))
            }
            status => {
                let text = response.text().await.unwrap_or_default();
                Err(failed(format!("{status} {}", text.trim())))
            }
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        patience: Duration,
    ) -> Result<T, TailnetError> {
        let response = self.send(action, method, path, Some(patience)).await?;
        let body = response.bytes().await.map_err(|error| self.failed(action, chain(&error)))?;
        serde_json::from_slice(&body).map_err(|problem| TailnetError::Answer {
            program: "tailscaled",
            action: action.to_owned(),
            problem: problem.to_string(),
        })
    }

    async fn send(
        &self,
        action: &'static str,
        method: Method,
        path: &str,
        patience: Option<Duration>,
    ) -> Result<Response, TailnetError> {
        let mut request = self.http.request(method, format!("http://{HOST}/localapi/v0/{path}"));
        if let Some(patience) = patience {
            request = request.timeout(patience);
        }
        let response = request.send().await.map_err(|error| self.failed(action, chain(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        Err(self.failed(action, format!("{status} {}", text.trim())))
    }

    fn failed(&self, action: &'static str, problem: String) -> TailnetError {
        TailnetError::LocalApi { client: self.client.clone(), action, problem }
    }
}

impl Changes {
    /// Resolves at the next change. Returns `false` at the end of the stream.
    pub async fn next(&mut self) -> bool {
        // The caller reads the change from the status, because the notification text may contain keys.
        matches!(self.0.chunk().await, Ok(Some(_)))
    }
}
