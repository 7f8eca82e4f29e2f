//! Dumps Kubernetes objects as text for the failure bundle of a run.

use std::time::Duration;

use super::access::KubernetesApi;

/// All objects of one kind, or the error of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectDump {
    /// File name in the bundle, e.g. `pods.json`.
    pub file: String,
    /// The list as indented JSON, or the error message.
    pub text: String,
}

/// The kinds that explain why a cluster does not form. Secrets and ConfigMaps are excluded.
const KINDS: [(&str, &str); 9] = [
    ("nodes", "/api/v1/nodes"),
    ("pods", "/api/v1/pods"),
    ("events", "/api/v1/events"),
    ("services", "/api/v1/services"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("daemonsets", "/apis/apps/v1/daemonsets"),
    ("deployments", "/apis/apps/v1/deployments"),
    ("csrs", "/apis/certificates.k8s.io/v1/certificatesigningrequests"),
    ("leases", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"),
];

/// The largest list that is formatted for people, in bytes.
const LARGEST_PARSED: usize = 2 << 20;

/// Fetches all kinds at once, each within `limit`; never fails as a whole.
pub async fn dump_objects(api: &KubernetesApi, limit: Duration) -> Vec<ObjectDump> {
    let fetch = KINDS.map(|(name, path)| async move {
        let text = match api.get_text(path, limit).await {
            // A parsed value needs many times the memory of its text.
            Ok(text) if text.len() > LARGEST_PARSED => text,
            Ok(text) => serde_json::from_str::<serde_json::Value>(&text)
                .and_then(|value| serde_json::to_string_pretty(&value))
                .unwrap_or(text),
            Err(error) => format!("could not be fetched: {error}"),
        };
        ObjectDump { file: format!("{name}.json"), text }
    });
    futures::future::join_all(fetch).await
}
