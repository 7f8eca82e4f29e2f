//! Requests between pods without the API server. The NodePort of each node leads from the host to the pod on
//! that node, and this pod sends a request to another pod. This works while the control plane is not
//! reachable.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::PostParams};
use lab_cluster::{
    kubernetes::{EchoPod, EchoWorkload, KubernetesApi, KubernetesError},
    wait::Wait,
};
use lab_model::node::NodeName;

use super::{
    CheckError, Fixtures,
    asked::{AskError, Probed},
    patient,
};

/// The time limit of a request. The echo server itself stops after 5 s.
const QUESTION: Duration = Duration::from_secs(9);
const SERVICE: &str = "doors";
/// The port of the echo server.
const PORT: u16 = 8080;

/// An echo pod on every node, and the host address that leads to each pod.
pub(super) struct NodePorts {
    pods: BTreeMap<NodeName, EchoPod>,
    addresses: BTreeMap<NodeName, SocketAddr>,
    http: reqwest::Client,
    patience: Wait,
}

/// A response from one pod to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answered {
    /// The duration, including connections and the path through the node port.
    pub(super) took: Duration,
}

impl NodePorts {
    /// Opens a node port to each echo pod. Returns when each pod responds through its port.
    pub(super) async fn open(fixtures: &Fixtures) -> Result<Self, CheckError> {
        let (cluster, api) = (fixtures.cluster(), fixtures.api());
        let echo = fixtures.echo().await?;
        let mut pods = BTreeMap::new();
        for pod in echo.pods {
            let node =
                NodeName::new(pod.node.as_str()).map_err(|error| CheckError::seen(error.to_string()))?;
            pods.insert(node, pod);
        }
        let port = node_port(api, echo.workload.namespace()).await?;
        let mut addresses = BTreeMap::new();
        for node in pods.keys() {
            addresses.insert(node.clone(), cluster.lan().add_forward(node, port).await?);
        }
        // The client needs a provider even for plain HTTP. An existing provider stays installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            reqwest::Client::builder().no_proxy().timeout(QUESTION).pool_max_idle_per_host(0).build()?;
        let ports = Self { pods, addresses, http, patience: patient(cluster.plan().budgets.patience()) };
        for (from, to) in ports.pairs() {
            ports.ask_patiently(from, to).await?;
        }
        Ok(ports)
    }

    pub(super) fn pairs(&self) -> Vec<(&NodeName, &NodeName)> {
        let nodes = || self.pods.keys();
        nodes().flat_map(|from| nodes().map(move |to| (from, to))).filter(|(from, to)| from != to).collect()
    }

    /// Sends one request from the pod on `from` to the pod on `to`. A response from another pod is an error.
    pub(super) async fn ask(&self, from: &NodeName, to: &NodeName) -> Result<Answered, AskError> {
        let began = Instant::now();
        let probed = self.probe(from, to, "").await?;
        let took = began.elapsed();
        match serde_json::from_str::<serde_json::Value>(&probed.body) {
            Ok(body) if body["node"] == to.as_str() => Ok(Answered { took }),
            _ => Err(AskError::NotThePod { status: probed.status, node: to.clone() }),
        }
    }

    /// Same as [`NodePorts::ask`], with the retries that a formed cluster may need.
    pub(super) async fn ask_patiently(&self, from: &NodeName, to: &NodeName) -> Result<Answered, AskError> {
        let asked = self.patience.retry(|| self.ask(from, to)).await;
        let what = format!("the pod on {from} does not reach the pod on {to}");
        asked.map_err(AskError::from).map_err(AskError::means(what))
    }

    /// Transfers `bytes` bytes to the pod on `from` from the pod on `to`. Retries if the pod's time limit
    /// expires.
    pub(super) async fn bring(
        &self,
        from: &NodeName,
        to: &NodeName,
        bytes: u64,
    ) -> Result<Answered, AskError> {
        let attempt = || async {
            let began = Instant::now();
            match self.probe(from, to, &format!("bytes?n={bytes}")).await? {
                probed if probed.bytes == bytes => Ok(Answered { took: began.elapsed() }),
                probed => Err(AskError::Short { bytes: probed.bytes }),
            }
        };
        let what = format!("the pod on {from} does not get {bytes} bytes of the pod on {to}");
        self.patience.retry(attempt).await.map_err(AskError::from).map_err(AskError::means(what))
    }

    async fn probe(&self, from: &NodeName, to: &NodeName, what: &str) -> Result<Probed, AskError> {
        let (Some(address), Some(pod)) = (self.addresses.get(from), self.pods.get(to)) else {
            return Err(AskError::NoPod { from: from.clone(), to: to.clone() });
        };
        let target = format!("{}{what}", EchoWorkload::url(&pod.address));
        let url = reqwest::Url::parse_with_params(&format!("http://{address}/probe"), [("url", target)]);
        let url = url.map_err(|error| AskError::Request(error.to_string()))?;
        let asked = async { self.http.get(url).send().await?.error_for_status()?.text().await };
        let text = asked.await.map_err(|source| AskError::NoNodePort { node: from.clone(), source })?;
        match serde_json::from_str::<Probed>(&text) {
            Ok(probed) if probed.error.is_empty() => Ok(probed),
            Ok(probed) => Err(AskError::Request(probed.error)),
            Err(_) => Err(AskError::NoProbe { text }),
        }
    }
}

/// Returns a port that leads, on every node, only to the pod on the same node.
async fn node_port(api: &KubernetesApi, namespace: &str) -> Result<u16, CheckError> {
    let services: Api<Service> = Api::namespaced(api.client(), namespace);
    let service: Service = serde_json::from_value(serde_json::json!({
        "metadata": { "name": SERVICE },
        "spec": {
            "type": "NodePort",
            "externalTrafficPolicy": "Local",
            "selector": { "app": "echo" },
            "ports": [{ "name": "http", "port": PORT, "targetPort": PORT }],
        },
    }))
    .map_err(|error| CheckError::seen(error.to_string()))?;
    let service = match services.create(&PostParams::default(), &service).await {
        Err(kube::Error::Api(status)) if status.code == 409 => services.get(SERVICE).await,
        created => created,
    };
    let service = service.map_err(KubernetesError::request("create the service of the node ports"))?;
    let spec = service.spec.unwrap_or_default();
    let port = spec.ports.unwrap_or_default().into_iter().find_map(|port| port.node_port);
    port.and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| CheckError::seen("the service got no port of the nodes"))
}
