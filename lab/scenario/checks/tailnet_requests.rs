//! Requests from a tailnet client to echo servers in the cluster.

use std::time::{Duration, Instant};

use lab_cluster::{kubernetes::EchoWorkload, tailnet::OutsideClient};
use lab_model::visible;

/// The longest unexpected answer that is shown, in characters.
const SHOWN: usize = 200;

/// The result of one request.
pub(super) struct TailnetAnswer {
    /// The duration of the request.
    pub(super) after: Duration,
    /// The responding node and the sender address that it saw, or the error.
    pub(super) seen: Result<(String, String), String>,
}

impl TailnetAnswer {
    /// Sends one request to the echo server at an address.
    pub(super) async fn of(client: &OutsideClient, address: &str, limit: Duration) -> Self {
        let started = Instant::now();
        let seen = match client.get(&EchoWorkload::url(address), limit).await {
            Ok(body) => understood(&String::from_utf8_lossy(&body)),
            Err(error) => Err(error.to_string()),
        };
        Self { after: started.elapsed(), seen }
    }
}

/// Reads node and sender from the response of an echo server.
fn understood(text: &str) -> Result<(String, String), String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|_| format!("\"{}\" answered", visible(text, SHOWN)))?;
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    if field("node").is_empty() {
        return Err("something else than the echo server answered".to_owned());
    }
    Ok((field("node"), field("client")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_echo_servers_answer_counts() {
        let seen = understood(r#"{"node":"worker-1","client":"10.244.2.0:41234"}"#);
        assert_eq!(seen, Ok(("worker-1".into(), "10.244.2.0:41234".into())));
        assert!(understood("<html>").is_err());
        assert!(understood("{}").is_err());
    }
}
