//! Doors into a cluster that need no API server: each node's NodePort leads from the host to the pod on that node, which
//! then asks another pod. What pods say of each other is so heard while the control plane cannot be reached.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::PostParams};
use serde::Deserialize;

use super::{attempts::Attempts, fixtures::Fixtures, text};
use crate::{
    kubernetes::{EchoPod, EchoWorkload, KubernetesApi},
    node::NodeName,
    words::chain,
};

/// How long a question may take: the echo server itself gives up after 5 s.
const QUESTION: Duration = Duration::from_secs(9);
/// The service's name.
const DOORS: &str = "doors";
/// What the echo server listens to.
const PORT: u16 = 8080;

/// An echo pod on every node and a door to each.
pub(super) struct Doors {
    pods: BTreeMap<NodeName, EchoPod>,
    doors: BTreeMap<NodeName, SocketAddr>,
    http: reqwest::Client,
    patience: Duration,
}

/// What an echo server says of a request that it made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Probed {
    status: u16,
    body: String,
    bytes: u64,
    error: String,
}

/// An answer that one pod got of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answered {
    /// How long it took, connections and the way through the door included.
    pub(super) took: Duration,
}

impl Doors {
    /// Opens a door to each echo pod; returns once each answers through its own.
    pub(super) async fn open(fixtures: &Fixtures<'_>) -> Result<Self, String> {
        let (cluster, api) = (fixtures.cluster, fixtures.api()?);
        let echo = fixtures.echo().await?;
        let mut pods = BTreeMap::new();
        for pod in echo.pods {
            pods.insert(NodeName::new(pod.node.as_str()).map_err(text)?, pod);
        }
        let port = node_port(api, echo.workload.namespace()).await?;
        let mut doors = BTreeMap::new();
        for node in pods.keys() {
            doors.insert(node.clone(), cluster.lan().add_forward(node, port).await.map_err(text)?);
        }
        // Without a provider the client does not even speak plain HTTP; one that is there stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().timeout(QUESTION).pool_max_idle_per_host(0).build();
        let http = http.map_err(|error| chain(&error))?;
        let doors = Self { pods, doors, http, patience: cluster.plan().budgets.patience() };
        for (from, to) in doors.pairs() {
            doors.ask_patiently(from, to).await?;
        }
        Ok(doors)
    }

    /// All pairs of different nodes.
    pub(super) fn pairs(&self) -> Vec<(&NodeName, &NodeName)> {
        let nodes = || self.pods.keys();
        nodes().flat_map(|from| nodes().map(move |to| (from, to))).filter(|(from, to)| from != to).collect()
    }

    /// Has the pod on `from` ask the one on `to`, once. An answer of another pod is none.
    pub(super) async fn ask(&self, from: &NodeName, to: &NodeName) -> Result<Answered, String> {
        let began = Instant::now();
        let probed = self.probe(from, to, "").await?;
        let took = began.elapsed();
        match serde_json::from_str::<serde_json::Value>(&probed.body) {
            Ok(body) if body["node"] == to.as_str() => Ok(Answered { took }),
            _ => Err(format!("status {} and not the answer of the pod on {to}", probed.status)),
        }
    }

    /// As [`Doors::ask`], as often as a formed cluster may need.
    pub(super) async fn ask_patiently(&self, from: &NodeName, to: &NodeName) -> Result<Answered, String> {
        let (mut tries, mut last) = (Attempts::patient(self.patience), String::new());
        while tries.another().await {
            match self.ask(from, to).await {
                Ok(answered) => return Ok(answered),
                Err(why) => last = why,
            }
        }
        Err(format!("the pod on {from} does not reach the pod on {to}: {last} ({tries})"))
    }

    /// Has the pod on `from` get so many bytes of the one on `to`, again when that takes longer than the pod waits.
    pub(super) async fn bring(&self, from: &NodeName, to: &NodeName, bytes: u64) -> Result<Answered, String> {
        let (mut tries, mut last) = (Attempts::patient(self.patience), String::new());
        while tries.another().await {
            let began = Instant::now();
            match self.probe(from, to, &format!("bytes?n={bytes}")).await {
                Ok(probed) if probed.bytes == bytes => return Ok(Answered { took: began.elapsed() }),
                Ok(probed) => last = format!("{} bytes came", probed.bytes),
                Err(why) => last = why,
            }
        }
        Err(format!("the pod on {from} does not get {bytes} bytes of the pod on {to}: {last} ({tries})"))
    }

    async fn probe(&self, from: &NodeName, to: &NodeName, what: &str) -> Result<Probed, String> {
        let (Some(door), Some(pod)) = (self.doors.get(from), self.pods.get(to)) else {
            return Err(format!("there is no pod on {from} or {to}"));
        };
        let target = format!("{}{what}", EchoWorkload::url(&pod.address));
        let mut url = reqwest::Url::parse(&format!("http://{door}/probe")).map_err(text)?;
        url.query_pairs_mut().append_pair("url", &target);
        let asked = async { self.http.get(url).send().await?.error_for_status()?.text().await };
        let said =
            asked.await.map_err(|error| format!("the pod on {from} cannot be asked: {}", chain(&error)))?;
        let probed: Probed = serde_json::from_str(&said).map_err(|_| format!("\"{said}\" answered"))?;
        if probed.error.is_empty() { Ok(probed) } else { Err(probed.error) }
    }
}

/// A port of every node that leads to the pod on the same node, and nowhere else.
async fn node_port(api: &KubernetesApi, namespace: &str) -> Result<u16, String> {
    let services: Api<Service> = Api::namespaced(api.client(), namespace);
    let service: Service = serde_json::from_value(serde_json::json!({
        "metadata": { "name": DOORS },
        "spec": {
            "type": "NodePort",
            "externalTrafficPolicy": "Local",
            "selector": { "app": "echo" },
            "ports": [{ "name": "http", "port": PORT, "targetPort": PORT }],
        },
    }))
    .map_err(text)?;
    let service = match services.create(&PostParams::default(), &service).await {
        Err(kube::Error::Api(status)) if status.code == 409 => services.get(DOORS).await,
        created => created,
    };
    let spec = service.map_err(|error| chain(&error))?.spec.unwrap_or_default();
    let port = spec.ports.unwrap_or_default().into_iter().find_map(|port| port.node_port);
    port.and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| "the service got no port of the nodes".to_owned())
}
