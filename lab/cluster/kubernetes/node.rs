//! Node objects: facts, the condition `Ready` with its reason, and watches.

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};

use super::access::{KubernetesApi, KubernetesError};

/// The condition `Ready` of a Node.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Whether the status is `True`. `False` and `Unknown` both mean not ready.
    pub ready: bool,
    /// The machine-readable reason, e.g. `KubeletNotReady`.
    pub reason: String,
    /// The human-readable message, e.g. which network plugin is missing.
    pub message: String,
}

/// The facts that a Node object reports. A reboot keeps the UID and the machine ID and changes the boot ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    pub uid: String,
    pub readiness: Readiness,
    /// The architecture as kubelet reports it, e.g. `arm64`.
    pub architecture: String,
    /// The content of `/etc/machine-id`.
    pub machine_id: String,
    /// The kernel's boot ID, new at each boot.
    pub boot_id: String,
    pub kubelet_version: String,
    /// `PRETTY_NAME` of `/etc/os-release`, e.g. `Talos (v1.11.5)`.
    pub os_image: String,
}

/// An item of the stream [`node_changes`].
#[derive(Clone, Debug)]
pub enum NodeChange {
    /// A Node was listed, created or changed; its current facts.
    Seen(Box<NodeFacts>),
    /// The Node object with this name was deleted.
    Deleted(String),
    /// The watch broke for this reason and is being re-established.
    Interrupted(String),
}

impl From<&Node> for NodeFacts {
    fn from(node: &Node) -> Self {
        let status = node.status.clone().unwrap_or_default();
        let info = status.node_info.unwrap_or_default();
        let readiness = status
            .conditions
            .unwrap_or_default()
            .into_iter()
            .find(|condition| condition.type_ == "Ready")
            .map(|condition| Readiness {
                ready: condition.status == "True",
                reason: condition.reason.unwrap_or_default(),
                message: condition.message.unwrap_or_default(),
            })
            .unwrap_or_else(|| Readiness {
                ready: false,
                reason: "NoCondition".into(),
                message: "kubelet has not reported the condition Ready yet".into(),
            });
        Self {
            name: node.name_any(),
            uid: node.uid().unwrap_or_default(),
            readiness,
            architecture: info.architecture,
            machine_id: info.machine_id,
            boot_id: info.boot_id,
            kubelet_version: info.kubelet_version,
            os_image: info.os_image,
        }
    }
}

impl KubernetesApi {
    /// Lists all Nodes.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn nodes(&self) -> Result<Vec<NodeFacts>, KubernetesError> {
        let nodes: Api<Node> = Api::all(self.client());
        let list =
            nodes.list(&Default::default()).await.map_err(KubernetesError::request("list the nodes"))?;
        Ok(list.items.iter().map(NodeFacts::from).collect())
    }

    /// Returns one Node, or `None` if it has not registered.
    ///
    /// # Errors
    /// When the request fails for a reason other than "not found".
    pub async fn node(&self, name: &str) -> Result<Option<NodeFacts>, KubernetesError> {
        let nodes: Api<Node> = Api::all(self.client());
        let node = nodes.get_opt(name).await.map_err(KubernetesError::request(format!("get node {name}")))?;
        Ok(node.as_ref().map(NodeFacts::from))
    }
}

/// Watches all Nodes. The stream starts with the existing Nodes and never ends: a broken watch is
/// re-established with back-off.
pub fn node_changes(api: &KubernetesApi) -> impl Stream<Item = NodeChange> + Send + use<> {
    let nodes: Api<Node> = Api::all(api.client());
    watcher(nodes, watcher::Config::default()).default_backoff().filter_map(|event| async {
        match event {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => {
                Some(NodeChange::Seen(Box::new(NodeFacts::from(&node))))
            }
            Ok(watcher::Event::Delete(node)) => Some(NodeChange::Deleted(node.name_any())),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => Some(NodeChange::Interrupted(error.to_string())),
        }
    })
}

/// Watches one Node. The stream starts with its current facts and never ends, like [`node_changes`].
pub fn node_facts(api: &KubernetesApi, name: &str) -> impl Stream<Item = NodeFacts> + Send + use<> {
    let nodes: Api<Node> = Api::all(api.client());
    let of_name = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher(nodes, of_name).default_backoff().filter_map(|event| async {
        match event {
            Ok(watcher::Event::Apply(node) | watcher::Event::InitApply(node)) => Some(NodeFacts::from(&node)),
            Ok(watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone) | Err(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: serde_json::Value) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": { "name": "cp-1", "uid": "u" },
            "status": { "conditions": conditions },
        }))
        .expect("node")
    }

    #[test]
    fn the_ready_condition_comes_with_its_reason() {
        let facts = NodeFacts::from(&node(serde_json::json!([
            { "type": "MemoryPressure", "status": "False" },
            { "type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni plugin not initialized" },
        ])));
        assert!(!facts.readiness.ready);
        assert_eq!(facts.readiness.message, "cni plugin not initialized");
    }

    #[test]
    fn a_node_without_conditions_is_not_ready() {
        assert!(!NodeFacts::from(&node(serde_json::json!([]))).readiness.ready);
    }

    #[test]
    fn unknown_is_not_ready() {
        let facts = NodeFacts::from(&node(serde_json::json!([{ "type": "Ready", "status": "Unknown" }])));
        assert!(!facts.readiness.ready);
    }
}
