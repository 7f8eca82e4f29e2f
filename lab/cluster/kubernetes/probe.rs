//! Questions asked from inside a pod: the echo server makes the request, so the packet takes the
//! way that a workload's packet takes. The pod is reached through the API server's pod proxy.

use std::{fmt::Write as _, time::Duration};

use serde::Deserialize;

use super::{
    access::{KubernetesApi, KubernetesError},
    echo::EchoPod,
};

/// Asks echo pods to probe the network.
pub struct Prober {
    api: KubernetesApi,
    limit: Duration,
}

/// What came of an HTTP request made inside a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ProbeReply {
    /// HTTP status, 0 when there was no answer.
    #[serde(default)]
    pub status: u16,
    /// The body's beginning.
    #[serde(default)]
    pub body: String,
    /// Why there was no answer, empty when there was one.
    #[serde(default)]
    pub error: String,
}

/// What came of a DNS look-up made inside a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ResolveReply {
    /// Addresses found.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Why there were none.
    #[serde(default)]
    pub error: String,
}

impl ProbeReply {
    /// The node name that the answering echo server reports, if it was one.
    pub fn answering_node(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Answer {
            node: String,
        }
        serde_json::from_str::<Answer>(&self.body).ok().map(|answer| answer.node)
    }
}

impl Prober {
    /// `limit` bounds each question, including its way through the API server.
    pub fn new(api: &KubernetesApi, limit: Duration) -> Self {
        Self { api: api.clone(), limit }
    }

    /// An HTTP GET of `url` from inside `pod`.
    ///
    /// # Errors
    /// When the pod itself cannot be asked; a failed request inside is a [`ProbeReply`].
    pub async fn get(&self, pod: &EchoPod, url: &str) -> Result<ProbeReply, KubernetesError> {
        self.ask(pod, &format!("probe?url={}", percent_encoded(url))).await
    }

    /// A look-up of `name` with the resolver of `pod`.
    ///
    /// # Errors
    /// When the pod itself cannot be asked.
    pub async fn resolve(&self, pod: &EchoPod, name: &str) -> Result<ResolveReply, KubernetesError> {
        self.ask(pod, &format!("resolve?name={}", percent_encoded(name))).await
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

/// RFC 3986 section 2.1, everything but unreserved characters.
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
