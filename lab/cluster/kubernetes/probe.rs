//! Network probes from inside a pod. The echo server sends the request, so the packets take the same path
//! as the packets of a workload. The lab reaches the pod through the pod proxy of the API server.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, ops::RangeInclusive, time::Duration};

use serde::Deserialize;

use super::{
    access::{KubernetesApi, KubernetesError},
    echo::EchoPod,
};

/// Sends probe requests to echo pods.
pub struct Prober {
    api: KubernetesApi,
    limit: Duration,
}

/// The result of an HTTP request from inside a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProbeReply {
    /// HTTP status, or 0 without an answer.
    #[serde(default)]
    pub status: u16,
    /// The beginning of the body.
    #[serde(default)]
    pub body: String,
    /// The reason for a missing answer. Empty if an answer arrived.
    #[serde(default)]
    pub error: String,
}

/// The result of a DNS lookup from inside a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ResolveReply {
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The reason for a failed lookup.
    #[serde(default)]
    pub error: String,
}

/// The result of asking the ports of a host from inside a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ScanReply {
    /// Ports that took a connection or answered a datagram, in ascending order.
    pub open: Vec<u16>,
    /// Ports that did nothing, in ascending order.
    pub silent: Vec<u16>,
    /// Number of ports that refused, by the reason that the network gave.
    pub refused: BTreeMap<String, u32>,
}

impl ProbeReply {
    /// Returns the node name from the answer of an echo server. Returns `None` for other answers.
    pub fn answering_node(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Answer {
            node: String,
        }
        serde_json::from_str::<Answer>(&self.body).ok().map(|answer| answer.node)
    }
}

impl Prober {
    /// `limit` applies to each probe, including the time in the API server.
    pub fn new(api: &KubernetesApi, limit: Duration) -> Self {
        Self { api: api.clone(), limit }
    }

    /// Sends an HTTP GET request to `url` from inside `pod`.
    ///
    /// # Errors
    /// When the lab cannot reach the pod. A failed request from inside the pod returns a [`ProbeReply`].
    pub async fn get(&self, pod: &EchoPod, url: &str) -> Result<ProbeReply, KubernetesError> {
        self.ask(pod, &format!("probe?url={}", percent_encoded(url))).await
    }

    /// Resolves `name` with the resolver of `pod`.
    ///
    /// # Errors
    /// When the lab cannot reach the pod.
    pub async fn resolve(&self, pod: &EchoPod, name: &str) -> Result<ResolveReply, KubernetesError> {
        self.ask(pod, &format!("resolve?name={}", percent_encoded(name))).await
    }

    /// Asks all `ports` of `host` from inside `pod`, each once. `protocol` is `tcp` or `udp`.
    ///
    /// # Errors
    /// When the lab cannot reach the pod.
    pub async fn scan(
        &self,
        pod: &EchoPod,
        protocol: &str,
        host: IpAddr,
        ports: RangeInclusive<u16>,
    ) -> Result<ScanReply, KubernetesError> {
        let (first, last) = ports.into_inner();
        self.ask(pod, &format!("scan?protocol={protocol}&host={host}&first={first}&last={last}")).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        pod: &EchoPod,
        question: &str,
    ) -> Result<T, KubernetesError> {
        let path = format!("/api/v1/namespaces/{}/pods/{}:8080/proxy/{question}", pod.namespace, pod.name);
        let text = self.api.get_text(&path, self.limit).await?;
        serde_json::from_str(&text).map_err(|source| {
            KubernetesError::request(format!("understand the echo server's answer \"{text}\""))(
                kube::Error::SerdeError(source),
            )
        })
    }
}

/// Encodes all bytes except unreserved characters (RFC 3986 section 2.1).
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_survive_as_query_values() {
        assert_eq!(percent_encoded("http://10.244.1.2:8080/"), "http%3A%2F%2F10.244.1.2%3A8080%2F");
    }
}
