//! Access to the API server.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use lab_model::words::chain;

/// A connection to the API server of a cluster.
#[derive(Clone)]
pub struct KubernetesApi {
    client: Client,
}

/// The error of a request to the API server.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// The kubeconfig from the node is not usable.
    #[error("use the kubeconfig of the cluster: {0}")]
    Kubeconfig(String),
    /// A request failed.
    #[error("{action}: {source}")]
    Request {
        /// The attempted action.
        action: String,
        /// The error from the client or the server.
        #[source]
        source: Box<kube::Error>,
    },
    /// A required service does not exist.
    #[error("there is no service {name}; if the cluster's config disables it, leave it out of the check")]
    NoService {
        /// Namespace and name.
        name: String,
    },
    /// A condition was not met in time.
    #[error("{waited_for} did not happen within {} s; last seen: {last_seen}", limit.as_secs())]
    Timeout {
        waited_for: String,
        limit: Duration,
        /// The last observed state.
        last_seen: String,
    },
}

impl KubernetesError {
    /// For `map_err`: wraps the error of a request and names the attempted action.
    pub fn request(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Request { action: action.into(), source: Box::new(source) }
    }

    /// Reports whether the server rejected the request permanently, so that a retry returns the same
    /// answer.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Request { source, .. } if matches!(&**source, kube::Error::Api(status)
            if (400..500).contains(&status.code) && ![404, 408, 409, 429].contains(&status.code)))
    }

    /// Reports whether the object already exists.
    pub fn already_exists(&self) -> bool {
        matches!(self, Self::Request { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == 409))
    }
}

/// Rewrites the kubeconfig for clients on the host. The credentials do not change. Clients connect to `via`
/// (a forwarded port) and verify `server` (the address in the certificate).
///
/// # Errors
/// When the text is not a kubeconfig.
pub fn forwarded_kubeconfig(
    kubeconfig: &str,
    via: SocketAddr,
    server: IpAddr,
) -> Result<String, KubernetesError> {
    let text = |error: &dyn std::fmt::Display| KubernetesError::Kubeconfig(error.to_string());
    let mut config = Kubeconfig::from_yaml(kubeconfig).map_err(|error| text(&error))?;
    for cluster in &mut config.clusters {
        let cluster = cluster.cluster.get_or_insert_default();
        cluster.server = Some(format!("https://{via}"));
        cluster.tls_server_name = Some(server.to_string());
    }
    serde_yaml::to_string(&config).map_err(|error| text(&error))
}

impl KubernetesApi {
    /// Creates a client from a kubeconfig of [`forwarded_kubeconfig`]. Does not connect yet.
    ///
    /// # Errors
    /// When the kubeconfig has no usable context or credentials.
    pub async fn new(kubeconfig: &str) -> Result<Self, KubernetesError> {
        let text = |error: &dyn std::fmt::Display| KubernetesError::Kubeconfig(error.to_string());
        let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(|error| text(&error))?;
        let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .map_err(|error| text(&error))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(Duration::from_secs(295));
        let client = Client::try_from(config).map_err(|error| text(&error))?;
        Ok(Self { client })
    }

    /// Uses a simulated API server in tests.
    #[doc(hidden)]
    pub fn of_client(client: Client) -> Self {
        Self { client }
    }

    /// Returns the underlying client, for typed APIs.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Checks `/readyz` of the API server. Returns `Ok` or the reason for the failure.
    pub async fn ready(&self) -> Result<(), String> {
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
        match tokio::time::timeout(Duration::from_secs(5), self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(chain(&error).replace('\n', " ")),
            Err(_) => Err("no answer to /readyz within 5 s".into()),
        }
    }

    /// Checks `/healthz` of a node's kubelet through the API server. Returns `Ok` or the reason for the
    /// failure.
    pub async fn kubelet_answers(&self, node: &str) -> Result<(), String> {
        let path = format!("/api/v1/nodes/{node}/proxy/healthz");
        match self.get_text(&path, Duration::from_secs(5)).await {
            Ok(text) if text.trim() == "ok" => Ok(()),
            Ok(text) => Err(format!("the kubelet of {node} says {:?}", text.trim())),
            Err(error) => Err(chain(&error).replace('\n', " ")),
        }
    }

    /// Sends a GET request and returns the body. Fails after `limit`.
    pub(super) async fn get_text(&self, path: &str, limit: Duration) -> Result<String, KubernetesError> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| KubernetesError::Kubeconfig(error.to_string()))?;
        match tokio::time::timeout(limit, self.client.request_text(request)).await {
            Ok(answer) => answer.map_err(KubernetesError::request(format!("GET {path}"))),
            Err(_) => Err(KubernetesError::Timeout {
                waited_for: format!("an answer to GET {path}"),
                limit,
                last_seen: "nothing".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: 'https://10.5.0.2:6443', certificate-authority-data: QQ==}}]
users: [{name: admin, user: {client-certificate-data: QQ==, client-key-data: QQ==}}]
contexts: [{name: admin@lab, context: {cluster: lab, user: admin}}]
current-context: admin@lab
";

    #[test]
    fn the_forwarded_kubeconfig_dials_loopback_and_verifies_the_node() {
        let address = "127.0.0.1:4567".parse().expect("address");
        let text =
            forwarded_kubeconfig(KUBECONFIG, address, "10.5.0.2".parse().expect("ip")).expect("rewrite");
        assert!(text.contains("server: https://127.0.0.1:4567"), "{text}");
        assert!(text.contains("tls-server-name: 10.5.0.2"), "{text}");
        assert!(text.contains("current-context: admin@lab"), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn damaged_text_ends_without_a_panic(at in 0..KUBECONFIG.len(), text in "[ -~\n&*é]{0,4}") {
            let mut damaged = KUBECONFIG.to_owned();
            damaged.replace_range(at..=at, &text);
            let _ = forwarded_kubeconfig(&damaged, SocketAddr::from(([127, 0, 0, 1], 1)), IpAddr::from([10, 5, 0, 2]));
        }
    }

    #[test]
    fn text_that_is_no_kubeconfig_is_an_error() {
        let address = "127.0.0.1:1".parse().expect("address");
        assert!(forwarded_kubeconfig("clusters: 7", address, IpAddr::from([10, 5, 0, 2])).is_err());
    }
}
