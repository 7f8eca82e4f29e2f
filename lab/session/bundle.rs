//! Collects the bundle of a failed run. The cluster may still be running.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{formation::Cluster, kubernetes::dump_objects, machine_api::NodeClient};
use lab_plan::cluster::NodePlan;
use lab_report::{Bundle, BundleError};

/// The time limit of each request to a node or to the API server.
const PATIENCE: Duration = Duration::from_secs(10);

/// The time limit of all requests to one node. A node may answer each of them as slowly as it can.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(25);

/// The services with the most informative logs.
const LOGS: [&str; 12] = [
    "machined",
    "controller-runtime",
    "apid",
    "trustd",
    "kubelet",
    "containerd",
    "cri",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
];

/// The resources of a node that tell the state of its parts (Talos, `talosctl get`), each with its namespace.
const RESOURCES: [(&str, &str); 8] = [
    ("runtime", "MachineStatuses.runtime.talos.dev"),
    ("runtime", "Diagnostics.runtime.talos.dev"),
    ("runtime", "ExtensionStatuses.runtime.talos.dev"),
    ("runtime", "VolumeStatuses.block.talos.dev"),
    ("runtime", "DiscoveredVolumes.block.talos.dev"),
    ("network", "AddressStatuses.net.talos.dev"),
    ("network", "RouteStatuses.net.talos.dev"),
    ("k8s", "StaticPodStatuses.kubernetes.talos.dev"),
];

/// Writes all information about the failure of `cluster` to `bundle/` in its run directory.
///
/// # Errors
/// If the directory cannot be written. Data that a node does not return is omitted, and the bundle lists it
/// as missing.
pub fn write_bundle<'a>(cluster: &'a Cluster, cause: &'a str) -> BoxFuture<'a, Result<(), BundleError>> {
    gather_bundle(cluster, cause).boxed()
}

async fn gather_bundle(cluster: &Cluster, cause: &str) -> Result<(), BundleError> {
    let mut bundle = Bundle::new(cause);
    let plan = serde_json::to_string_pretty(cluster.plan()).unwrap_or_default();
    bundle.add("plan.json", plan);
    let nodes = cluster.plan().nodes.iter().map(|node| gather(cluster, node));
    for (node, texts) in futures::future::join_all(nodes).await {
        for (name, text) in texts {
            // An extension may print its auth key.
            let text = match cluster.tailnet() {
                Some(tailnet) => tailnet.redact(text),
                None => text,
            };
            bundle.add(format!("nodes/{node}/{name}"), text);
        }
    }
    match cluster.formation().kubernetes() {
        Ok(api) => {
            for dump in dump_objects(api, PATIENCE).await {
                bundle.add(format!("kubernetes/{}", dump.file), dump.text);
            }
        }
        Err(not_formed) => bundle.add("kubernetes/not-asked.txt", not_formed.to_string()),
    }
    bundle.add("network.txt", format!("{:#?}", cluster.lan().counters()));
    bundle.write(&cluster.directory().join("bundle"))
}

async fn gather(cluster: &Cluster, node: &NodePlan) -> (String, Vec<(String, String)>) {
    let mut texts = Vec::new();
    let directory = cluster.node_directory(&node.spec.name);
    for name in ["console.log", "stderr.log", "command.sh"] {
        if let Ok(bytes) = fs::read(directory.join(name)) {
            texts.push((name.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    let until = Instant::now() + PATIENCE_IN_ALL;
    let left = || until.saturating_duration_since(Instant::now()).min(PATIENCE);
    let connected = tokio::time::timeout(PATIENCE, cluster.connect(node)).await;
    match connected {
        Ok(Ok(client)) => {
            let mut logs: Vec<String> = LOGS.map(str::to_owned).into();
            let services = match client.services(left()).await {
                Ok(services) => {
                    let extensions = services.iter().filter(|service| service.id.starts_with("ext-"));
                    logs.extend(extensions.map(|service| service.id.clone()));
                    services.iter().map(|service| format!("{service}\n")).collect()
                }
                Err(error) => error.to_string(),
            };
            texts.push(("services.txt".into(), services));
            for service in &logs {
                if let Ok(log) = client.logs(service, 2000, left()).await {
                    texts.push((format!("{service}.log"), log));
                }
            }
            for log in client.system_pod_logs(left()).await.unwrap_or_default() {
                texts.push((format!("pods/{}", log.name), log.text));
            }
            texts.push(("resources.yaml".into(), resources(&client, left).await));
            match client.dmesg(left()).await {
                Ok(text) => texts.push(("dmesg.txt".into(), text)),
                Err(error) => texts.push(("dmesg.txt".into(), error.to_string())),
            }
        }
        Ok(Err(error)) => texts.push(("api.txt".into(), error.to_string())),
        Err(_) => texts.push(("api.txt".into(), "the machine API did not answer".into())),
    }
    (node.spec.name.to_string(), texts)
}

/// The resources of a node as YAML documents. Types that its release does not have are left out.
async fn resources(client: &NodeClient, left: impl Fn() -> Duration) -> String {
    let mut text = String::new();
    for (namespace, kind) in RESOURCES {
        let Ok(found) = client.list(namespace, kind, left()).await else { continue };
        for resource in found {
            let spec = serde_yaml::to_string(&resource.spec).unwrap_or_default();
            text += &format!("---\n# {kind} {}\n{spec}", resource.id);
        }
    }
    text
}
