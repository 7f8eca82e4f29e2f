//! Access to the API server.

use std::{fmt, time::Duration};

use http_body_util::Limited;
use kube::{
    Client, Config,
    client::{ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig},
};
use lab_model::{visible, words::chain};
use tower::util::MapResponseLayer;

/// The largest answer of the API server that is read, in bytes; a watch that sends more starts again.
const LARGEST_ANSWER: usize = 16 << 20;
/// The longest text of an error that is shown, in characters.
const SHOWN: usize = 600;
/// The longest name of a health check that is shown, and how many of them.
const CHECK: usize = 100;
const CHECKS: usize = 10;
/// Time limit for a connection, and for an answer to `/readyz`.
const READY: Duration = Duration::from_secs(5);

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
        self.has_code(409)
    }

    /// Reports whether the object, or its kind, does not exist.
    pub fn is_not_found(&self) -> bool {
        self.has_code(404)
    }

    /// Reports whether the server rejected the request of this client. Admission can do so for a time.
    pub fn is_forbidden(&self) -> bool {
        self.has_code(403)
    }

    fn has_code(&self, code: u16) -> bool {
        matches!(self, Self::Request { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == code))
    }
}

/// Awaits a request to the API server for at most `limit`. `action` is a verb with its object.
pub(super) async fn answered<T>(
    action: String,
    limit: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, KubernetesError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(KubernetesError::request(action)),
        Err(_) => Err(KubernetesError::Timeout {
            waited_for: format!("an answer to the request to {action}"),
            limit,
            last_seen: "nothing".into(),
        }),
    }
}

/// Why an API server is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// The health checks that the API server reports as failed, at most ten. Empty if it does not answer.
    pub failing: Vec<String>,
    text: String,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failing[..] {
            [] => f.write_str(&self.text),
            failing => write!(f, "the API server answers, and waits for {}", failing.join(", ")),
        }
    }
}

/// The failed checks in an answer to `/readyz`, which has a line `[-]NAME failed: reason withheld` for each (Kubernetes,
/// staging/src/k8s.io/apiserver/pkg/server/healthz).
fn failing_checks(answer: &str) -> Vec<String> {
    let name = |line: &str| Some(visible(line.strip_prefix("[-]")?.split_once(" failed")?.0, CHECK));
    answer.lines().filter_map(name).take(CHECKS).collect()
}

/// Ends each answer at its limit: an API server can be a stranger's.
fn bounded<B>() -> MapResponseLayer<impl FnMut(http::Response<B>) -> http::Response<Limited<B>> + Clone> {
    MapResponseLayer::new(|answer: http::Response<B>| answer.map(|body| Limited::new(body, LARGEST_ANSWER)))
}

impl KubernetesApi {
    /// Creates a client from a kubeconfig of [`lab_plan::config::AdminKubeconfig`]. Does not connect yet.
    ///
    /// # Errors
    /// When the kubeconfig has no usable context or credentials.
    pub async fn new(kubeconfig: &str) -> Result<Self, KubernetesError> {
        let text = |error: &dyn std::fmt::Display| KubernetesError::Kubeconfig(error.to_string());
        let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(|error| text(&error))?;
        let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .map_err(|error| text(&error))?;
        config.connect_timeout = Some(READY);
        config.read_timeout = Some(Duration::from_secs(295));
        let builder = ClientBuilder::try_from(config).map_err(|error| text(&error))?;
        Ok(Self { client: builder.with_layer(&bounded::<Box<DynBody>>()).build() })
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
        self.readyz("/readyz").await.map_err(|unready| unready.to_string())
    }

    /// Checks whether the API server serves an administrator: as [`Self::ready`], without the check that the roles of RBAC
    /// exist. An API server that creates its roles does so for minutes on a slow host (Talos v1.13.9 with Kubernetes
    /// v1.36.3, speed factor 2.7: 146 s), and serves administrators meanwhile.
    pub async fn serves(&self) -> Result<(), Unready> {
        self.readyz("/readyz?exclude=poststarthook/rbac/bootstrap-roles").await
    }

    async fn readyz(&self, path: &str) -> Result<(), Unready> {
        let silent = |text: String| Unready { failing: Vec::new(), text };
        let request = http::Request::get(path).body(Vec::new()).map_err(|error| silent(error.to_string()))?;
        match tokio::time::timeout(READY, self.client.request_text(request)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let failing = match &error {
                    kube::Error::Api(status) => failing_checks(&status.message),
                    _ => Vec::new(),
                };
                Err(Unready { failing, text: visible(&chain(&error), SHOWN) })
            }
            Err(_) => Err(silent(format!("no answer to /readyz within {} s", READY.as_secs()))),
        }
    }

    /// Checks `/healthz` of a node's kubelet through the API server. Returns `Ok` or the reason for the
    /// failure.
    pub async fn kubelet_answers(&self, node: &str) -> Result<(), String> {
        let path = format!("/api/v1/nodes/{node}/proxy/healthz");
        match self.get_text(&path, Duration::from_secs(5)).await {
            Ok(text) if text.trim() == "ok" => Ok(()),
            Ok(text) => Err(format!("the kubelet of {node} says {:?}", visible(text.trim(), SHOWN))),
            Err(error) => Err(visible(&chain(&error), SHOWN)),
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
    use std::net::{IpAddr, SocketAddr};

    use lab_plan::config::{AdminKubeconfig, SecretsBundle};

    use super::*;

    #[tokio::test]
    async fn a_client_accepts_the_kubeconfig_that_the_lab_issues() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let now = jiff::Timestamp::now();
        let secrets = SecretsBundle::generate(now).expect("secrets");
        let issued = AdminKubeconfig::issue(&secrets, now).expect("issue");
        let via = SocketAddr::from(([127, 0, 0, 1], 1));
        let api =
            KubernetesApi::new(&issued.to_text(via, IpAddr::from([10, 5, 0, 2]))).await.expect("client");
        assert!(api.ready().await.is_err(), "nothing listens at port 1");
        assert!(KubernetesApi::new("clusters: 7").await.is_err());
    }

    #[tokio::test]
    async fn an_api_server_that_waits_says_for_what() {
        let answers = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let rbac = request
                .uri()
                .query()
                .is_none()
                .then_some("[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n");
            let etcd = "[+]ping ok\n[-]etcd failed: reason withheld\n";
            let body = kube::client::Body::from(
                format!("{etcd}{}readyz check failed\n", rbac.unwrap_or_default()).into_bytes(),
            );
            http::Response::builder().status(500).body(body).map_err(std::io::Error::other)
        });
        let api = KubernetesApi::of_client(ClientBuilder::new(answers, "default").build());
        let text = "the API server answers, and waits for etcd";
        assert_eq!(api.ready().await, Err(format!("{text}, poststarthook/rbac/bootstrap-roles")));
        assert_eq!(api.serves().await.map_err(|unready| unready.to_string()), Err(text.to_owned()));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_read_to_its_limit() {
        let endless = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            let body = kube::client::Body::from(vec![b' '; LARGEST_ANSWER + 1]);
            Ok::<_, std::io::Error>(http::Response::new(body))
        });
        let client =
            ClientBuilder::new(endless, "default").with_layer(&bounded::<kube::client::Body>()).build();
        let error = KubernetesApi::of_client(client).get_text("/api/v1/pods", Duration::from_secs(30)).await;
        let error = chain(&error.expect_err("endless"));
        assert!(error.contains("length limit exceeded"), "{error}");
    }
}
