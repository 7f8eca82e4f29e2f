//! tailscaled's local API: HTTP over its unix socket, as `tailscale` itself uses it.
//!
//! Source: `ipn/localapi` and `client/local` of tailscale.com.

use std::{net::IpAddr, path::Path, time::Duration};

use lab_model::words::chain;
use reqwest::{Client, Method, Response};
use serde::de::DeserializeOwned;

use super::{
    TailnetError,
    certificate::tls_trusting,
    client_status::{ClientStatus, PingResult, Pong, Preferences},
};

/// The host name by which tailscaled tells its own clients from browsers.
const HOST: &str = "local-tailscaled.sock";
/// `NotifyInitialState | NotifyNoPrivateKeys`: tell the state now, and no keys ever.
const WATCH_MASK: u64 = 1 << 1 | 1 << 4;
/// How long an answer from the same host may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One tailscaled's API.
#[derive(Clone)]
pub(super) struct LocalApi {
    client: String,
    http: Client,
}

/// A stream of changes.
pub(super) struct Changes(Response);

impl LocalApi {
    /// The API behind `socket` of the client called `client`.
    pub fn new(client: &str, socket: &Path) -> Result<Self, TailnetError> {
        let failed = |problem: String| TailnetError::LocalApi {
            client: client.to_owned(),
            action: "speak HTTP",
            problem,
        };
        // No TLS is spoken; the client is only not built without some.
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

    /// Pings `address` once with a packet of Tailscale's own (`disco`), or with `TSMP`, which also
    /// goes through the encryption.
    pub async fn ping(&self, address: IpAddr, kind: &str, patience: Duration) -> Result<Pong, TailnetError> {
        let path = format!("ping?ip={address}&type={kind}");
        let answer = tokio::time::timeout(patience, self.ask("ping", Method::POST, &path, PATIENCE)).await;
        let client = self.client.clone();
        let result: PingResult = answer.map_err(|_| TailnetError::NoPong { client, address })??;
        result.pong().map_err(|problem| self.failed("ping", format!("{address}: {problem}")))
    }

    /// Something for each change of the client, from now on.
    pub async fn changes(&self) -> Result<Changes, TailnetError> {
        let path = format!("watch-ipn-bus?mask={WATCH_MASK}");
        Ok(Changes(self.send("watch", Method::GET, &path, None).await?))
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
    /// Resolves at the next change; `false` when there will be none.
    pub async fn next(&mut self) -> bool {
        // What changed is read from the status; the text may name keys.
        matches!(self.0.chunk().await, Ok(Some(_)))
    }
}
