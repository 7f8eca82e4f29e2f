//! Traffic through the outside client: one connection for each request or datagram.
//!
//! Traffic leaves through the tailnet when the client has a route for the target. Other traffic leaves through **this
//! host's own network**, so a response proves nothing before the client has accepted the route: probe after
//! [`OutsideClient::wait_for`].

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use lab_model::words::chain;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    super::{TailnetError, local_api::Transport},
    OutsideClient,
};

/// The maximum size of a datagram in bytes.
const LARGEST_DATAGRAM: usize = 2048;
/// The maximum size of a response to a request in bytes.
const LARGEST_BODY: usize = 16 << 20;

impl OutsideClient {
    /// Sends an HTTP request through the tailnet and returns the body of the response. It opens a new connection: every
    /// request is a new probe of the route.
    ///
    /// # Errors
    /// When no successful response arrives within `patience`.
    pub async fn get(&self, url: &str, patience: Duration) -> Result<Bytes, TailnetError> {
        match self.ask(url, patience).await? {
            (status, body) if status.is_success() => Ok(body),
            (status, _) => Err(self.unsent("send a request", format!("the answer is {status}"))),
        }
    }

    /// Like [`OutsideClient::get`], and returns a response with any status.
    ///
    /// # Errors
    /// When no response arrives within `patience`.
    pub async fn ask(&self, url: &str, patience: Duration) -> Result<(StatusCode, Bytes), TailnetError> {
        let url = url.parse::<Uri>().map_err(|error| self.unsent("send a request", chain(&error)))?;
        match tokio::time::timeout(patience, self.request(&url)).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(self.unsent("send a request", format!("no answer within {} s", patience.as_secs())))
            }
        }
    }

    async fn request(&self, url: &Uri) -> Result<(StatusCode, Bytes), TailnetError> {
        let failed = |error: &(dyn std::error::Error + 'static)| self.unsent("send a request", chain(error));
        let (host, port) = (url.host().unwrap_or_default(), url.port_u16().unwrap_or(80));
        let stream = self.api.dial(Transport::Tcp, host, port).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
        // It ends with the last handle of the exchange; its error is the error of the exchange.
        tokio::spawn(connection);
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, authority)
            .header(CONNECTION, HeaderValue::from_static("close"))
            .body(Empty::<Bytes>::new())
            .map_err(|error| failed(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_BODY).collect().await;
        body.map(|body| (status, body.to_bytes())).map_err(|error| failed(&*error))
    }

    /// Sends one datagram through the tailnet and waits for the response. The network can lose datagrams: a missing
    /// response is an error after `patience`, and the caller can retry.
    ///
    /// # Errors
    /// When the client refuses, or no response arrives in time.
    pub async fn udp(
        &self,
        target: SocketAddr,
        datagram: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, TailnetError> {
        const ACTION: &str = "send a datagram";
        let exchange = async {
            let mut stream = self.api.dial(Transport::Udp, &target.ip().to_string(), target.port()).await?;
            let mut answer = vec![0; LARGEST_DATAGRAM];
            let exchanged = async {
                stream.write_all(datagram).await?;
                stream.flush().await?;
                stream.read(&mut answer).await
            };
            match exchanged.await {
                Ok(0) => Err(self.unsent(ACTION, "the client closed the connection".to_owned())),
                Ok(length) => {
                    answer.truncate(length);
                    Ok(answer)
                }
                Err(error) => Err(self.unsent(ACTION, error.to_string())),
            }
        };
        // tailscaled does not track datagrams that leave in user-space mode: it would take the answer for a packet that
        // nobody asked for.
        let shielded = self.spec.advertise_routes.is_empty();
        if shielded {
            self.api.set_shields(false).await?;
        }
        let answer = tokio::time::timeout(patience, exchange).await;
        if shielded {
            self.api.set_shields(true).await?;
        }
        match answer {
            Ok(answer) => answer,
            Err(_) => Err(self.unsent(ACTION, format!("no answer within {} s", patience.as_secs()))),
        }
    }

    fn unsent(&self, action: &'static str, problem: String) -> TailnetError {
        TailnetError::LocalApi { client: self.spec.hostname.clone(), action, problem }
    }
}
