//! The echo workload for network checks: a pod on each node and a service for the pods.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Event, Namespace, Pod, Service},
    node::v1::RuntimeClass,
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
    runtime::watcher,
};
use lab_model::workloads::ECHO_IMAGE;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{
    access::{KubernetesApi, KubernetesError},
    service::ready_endpoint,
    watch::shown,
};

/// The HTTP port of every echo pod.
const HTTP_PORT: u16 = 8080;
/// The port for TCP and UDP echo in pods of the ordinary runtime.
pub const ECHO_PORT: u16 = 7007;

/// A DaemonSet of echo servers with a ClusterIP service, in a dedicated namespace.
pub struct EchoWorkload {
    api: KubernetesApi,
    namespace: String,
    name: &'static str,
    pub cluster_ip: String,
}

/// A running, ready echo pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EchoPod {
    pub name: String,
    pub node: String,
    /// Address in the pod network.
    pub address: String,
    pub namespace: String,
}

impl EchoWorkload {
    /// Creates the workload in `namespace`. Succeeds if the workload already exists.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub async fn create(api: &KubernetesApi, namespace: &str) -> Result<Self, KubernetesError> {
        Self::create_of(api, namespace, Runtime::Ordinary, ECHO_IMAGE).await
    }

    /// Creates the workload in `namespace` from another image that contains the echo server.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub async fn create_from(
        api: &KubernetesApi,
        namespace: &str,
        image: &str,
    ) -> Result<Self, KubernetesError> {
        Self::create_of(api, namespace, Runtime::Ordinary, image).await
    }

    /// Creates the workload in `namespace` on the network of the nodes, so that its requests are those of a node.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub async fn create_on_nodes(api: &KubernetesApi, namespace: &str) -> Result<Self, KubernetesError> {
        Self::create_of(api, namespace, Runtime::HostNetwork, ECHO_IMAGE).await
    }

    /// Creates a WebAssembly workload in `namespace`, and the runtime class that it needs.
    ///
    /// # Errors
    /// When the API server rejects an object.
    pub async fn create_wasm(
        api: &KubernetesApi,
        namespace: &str,
        workload: &WasmWorkload,
    ) -> Result<Self, KubernetesError> {
        create::<RuntimeClass>(Api::all(api.client()), &runtime_class(workload)).await?;
        Self::create_of(api, namespace, Runtime::Wasm(workload), &workload.image).await
    }

    async fn create_of(
        api: &KubernetesApi,
        namespace: &str,
        runtime: Runtime<'_>,
        image: &str,
    ) -> Result<Self, KubernetesError> {
        let name = runtime.workload();
        let objects = objects(namespace, runtime, image);
        create::<Namespace>(Api::all(api.client()), &objects.namespace).await?;
        create::<DaemonSet>(Api::namespaced(api.client(), namespace), &objects.daemon_set).await?;
        let services: Api<Service> = Api::namespaced(api.client(), namespace);
        create::<Service>(services.clone(), &objects.service).await?;
        let service = services
            .get(name)
            .await
            .map_err(KubernetesError::request(format!("get service {namespace}/{name}")))?;
        let cluster_ip = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
        Ok(Self { api: api.clone(), namespace: namespace.to_owned(), name, cluster_ip })
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the DNS name of the service within the cluster.
    pub fn dns_name(&self, domain: &str) -> String {
        format!("{}.{}.svc.{domain}", self.name, self.namespace)
    }

    /// Returns the URL of an echo server at a host name or address.
    pub fn url(host: &str) -> String {
        format!("http://{host}:{HTTP_PORT}/")
    }

    /// Watches the pods until each of `nodes` has a ready pod.
    ///
    /// # Errors
    /// When `limit` expires. The error lists the nodes without a ready pod and the state of their pods.
    pub async fn ready_pods(
        &self,
        nodes: &[String],
        limit: Duration,
    ) -> Result<Vec<EchoPod>, KubernetesError> {
        let pods: Api<Pod> = Api::namespaced(self.api.client(), &self.namespace);
        let mut seen: BTreeMap<String, Result<EchoPod, String>> = BTreeMap::new();
        let watch = async {
            let of_workload = watcher::Config::default().labels(&format!("app={}", self.name));
            let mut changes = shown(pods, of_workload);
            while let Some(pod) = changes.next().await {
                if let Some((node, state)) = pod_state(&pod) {
                    seen.insert(node, state);
                }
                if nodes.iter().all(|node| matches!(seen.get(node), Some(Ok(_)))) {
                    break;
                }
            }
        };
        match tokio::time::timeout(limit, watch).await {
            Ok(()) => Ok(seen.into_values().flatten().collect()),
            Err(_) => Err(KubernetesError::Timeout {
                waited_for: format!("a ready {} pod on every node", self.name),
                limit,
                last_seen: nodes
                    .iter()
                    .filter_map(|node| match seen.get(node) {
                        None => Some(format!("{node}: no pod was scheduled")),
                        Some(Err(reason)) => Some(format!("{node}: {reason}")),
                        Some(Ok(_)) => None,
                    })
                    .collect::<Vec<_>>()
                    .join("; "),
            }),
        }
    }

    /// Waits until the service has a ready endpoint.
    ///
    /// # Errors
    /// When `limit` expires. The error lists the endpoints of the service.
    pub async fn ready_service(&self, limit: Duration) -> Result<(), KubernetesError> {
        ready_endpoint(&self.api, (&self.namespace, self.name), limit).await
    }

    /// Waits for an event that reports a permanent start failure of a pod in the namespace. Returns the
    /// node, the pod and the event message.
    pub async fn start_refused(&self) -> String {
        let events: Api<Event> = Api::namespaced(self.api.client(), &self.namespace);
        let mut changes = shown(events, watcher::Config::default());
        while let Some(event) = changes.next().await {
            if let Some(message) = event.message
                && NO_RUNTIME.iter().any(|words| message.contains(words))
            {
                let host = event.source.and_then(|source| source.host).unwrap_or_default();
                let pod = event.involved_object.name.unwrap_or_default();
                return format!("{host}: pod {pod} cannot start: {message}");
            }
        }
        // The watch does not end.
        std::future::pending().await
    }

    /// Deletes the namespace and its contents. Does not wait for completion.
    ///
    /// # Errors
    /// When the API server rejects the request.
    pub async fn delete(&self) -> Result<(), KubernetesError> {
        let namespaces: Api<Namespace> = Api::all(self.api.client());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
            .map_err(KubernetesError::request(format!("delete namespace {}", self.namespace)))?;
        Ok(())
    }
}

async fn create<K>(api: Api<K>, object: &serde_json::Value) -> Result<(), KubernetesError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let typed = serde_json::from_value(object.clone()).map_err(|source| {
        KubernetesError::request(format!("describe {name}"))(kube::Error::SerdeError(source))
    })?;
    match api.create(&PostParams::default(), &typed).await.map_err(KubernetesError::request(format!(
        "create {} {name}",
        object["kind"].as_str().unwrap_or_default()
    ))) {
        Err(error) if error.already_exists() => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Returns the node of a pod, and either the ready pod or the reason why it is not ready. Returns `None`
/// before the pod is scheduled and during its deletion.
fn pod_state(pod: &Pod) -> Option<(String, Result<EchoPod, String>)> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let node = pod.spec.as_ref()?.node_name.clone()?;
    let status = pod.status.clone().unwrap_or_default();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let state = match status.pod_ip {
        Some(address) if ready => Ok(EchoPod {
            name: pod.metadata.name.clone().unwrap_or_default(),
            node: node.clone(),
            address,
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        }),
        _ => Err(status
            .container_statuses
            .iter()
            .flatten()
            .find_map(|container| {
                let waiting = container.state.as_ref()?.waiting.as_ref()?;
                Some(format!(
                    "{} {}",
                    waiting.reason.clone().unwrap_or_default(),
                    waiting.message.clone().unwrap_or_default()
                ))
            })
            .unwrap_or_else(|| format!("pod is {}", status.phase.unwrap_or_else(|| "Pending".into())))),
    };
    Some((node, state))
}

/// Error messages after which a pod does not start by itself: of containerd for a runtime handler without a
/// configuration (containerd 1.7 and 2, `pkg/cri`, `getSandboxRuntime`) or without its shim, and of Spin for an
/// image without a usable manifest.
const NO_RUNTIME: [&str; 6] = [
    "no runtime for",
    "failed to get sandbox runtime",
    "failed to resolve runtime path",
    "invalid manifest",
    "failed to read manifest",
    "spin.toml",
];

/// The default runtime class of WebAssembly workloads. Users of the spin shim use the same name.
pub const WASM_RUNTIME_CLASS: &str = "wasmtime-spin-v2";

/// A WebAssembly workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmWorkload {
    /// The image with a Spin manifest, or with a module as its entry point.
    pub image: String,
    /// Name of the runtime class.
    pub class: String,
    /// Name of the runtime handler in the configuration of containerd.
    pub handler: String,
    /// The path that answers with status 200 when the workload is ready. `None` means that an open port is
    /// enough.
    pub health: Option<&'static str>,
}

/// The container runtime of an echo workload.
#[derive(Clone, Copy)]
enum Runtime<'a> {
    Ordinary,
    /// The ordinary runtime, without a network of the pod's own.
    HostNetwork,
    Wasm(&'a WasmWorkload),
}

impl Runtime<'_> {
    fn workload(self) -> &'static str {
        match self {
            Runtime::Ordinary => "echo",
            Runtime::HostNetwork => "node-echo",
            Runtime::Wasm(_) => "wasm",
        }
    }
}

fn runtime_class(workload: &WasmWorkload) -> serde_json::Value {
    json!({
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": { "name": workload.class },
        "handler": workload.handler,
    })
}

struct Objects {
    namespace: serde_json::Value,
    daemon_set: serde_json::Value,
    service: serde_json::Value,
}

fn objects(namespace: &str, runtime: Runtime<'_>, image: &str) -> Objects {
    let name = runtime.workload();
    let labels = json!({ "app": name });
    let class = match runtime {
        Runtime::Ordinary | Runtime::HostNetwork => serde_json::Value::Null,
        Runtime::Wasm(workload) => json!(workload.class),
    };
    let health = match runtime {
        Runtime::Ordinary | Runtime::HostNetwork => Some("/healthz"),
        Runtime::Wasm(workload) => workload.health,
    };
    let mut probe = json!({ "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 30 });
    match health {
        Some(path) => probe["httpGet"] = json!({ "path": path, "port": HTTP_PORT }),
        None => probe["tcpSocket"] = json!({ "port": HTTP_PORT }),
    }
    let port = |name: &str, protocol: &str, port: u16| json!({ "name": name, "protocol": protocol, "port": port, "targetPort": port });
    let mut ports = vec![port("http", "TCP", HTTP_PORT)];
    if matches!(runtime, Runtime::Ordinary) {
        ports.push(port("echo-udp", "UDP", ECHO_PORT));
    }
    let on_host_network = matches!(runtime, Runtime::HostNetwork);
    // The default policy of Talos refuses such pods (Pod Security Standards, "baseline").
    let namespace_labels = match runtime {
        Runtime::HostNetwork => json!({ "pod-security.kubernetes.io/enforce": "privileged" }),
        Runtime::Ordinary | Runtime::Wasm(_) => json!({}),
    };
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    Objects {
        namespace: json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": namespace, "labels": namespace_labels },
        }),
        daemon_set: json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": { "name": name, "namespace": namespace },
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "runtimeClassName": class,
                        "hostNetwork": on_host_network,
                        "tolerations": [{ "operator": "Exists" }],
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{
                            "name": name,
                            "image": image,
                            "imagePullPolicy": "IfNotPresent",
                            "env": [
                                field("NODE_NAME", "spec.nodeName"),
                                field("POD_NAME", "metadata.name"),
                                field("POD_IP", "status.podIP"),
                                // Spin, and runners of plain WASI modules, read these variables. The echo
                                // server ignores them.
                                { "name": "SPIN_HTTP_LISTEN_ADDR", "value": format!("0.0.0.0:{HTTP_PORT}") },
                                { "name": "WASI_TCP_LISTEN", "value": format!("0.0.0.0:{HTTP_PORT}") },
                            ],
                            "ports": [{ "name": "http", "containerPort": HTTP_PORT }],
                            "readinessProbe": probe,
                        }],
                    },
                },
            },
        }),
        service: json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "selector": labels, "ports": ports },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_what_the_api_types_expect() {
        let workload = WasmWorkload {
            image: "ghcr.io/me/app:v1".into(),
            class: WASM_RUNTIME_CLASS.into(),
            handler: "wasmtime-spin".into(),
            health: None,
        };
        for (runtime, class) in [
            (Runtime::Ordinary, None),
            (Runtime::HostNetwork, None),
            (Runtime::Wasm(&workload), Some(WASM_RUNTIME_CLASS)),
        ] {
            let objects = objects("lab-checks", runtime, ECHO_IMAGE);
            serde_json::from_value::<Namespace>(objects.namespace).expect("namespace");
            let set = serde_json::from_value::<DaemonSet>(objects.daemon_set).expect("daemon set");
            let pod = set.spec.and_then(|spec| spec.template.spec).expect("pod");
            assert_eq!(pod.runtime_class_name.as_deref(), class);
            assert_eq!(pod.host_network, Some(matches!(runtime, Runtime::HostNetwork)));
            let probe = pod.containers[0].readiness_probe.as_ref().expect("probe");
            assert_eq!(
                probe.tcp_socket.is_some(),
                class.is_some(),
                "an application of the user has its own paths"
            );
            serde_json::from_value::<Service>(objects.service).expect("service");
        }
        serde_json::from_value::<RuntimeClass>(runtime_class(&workload)).expect("runtime class");
    }

    #[test]
    fn a_pod_that_cannot_pull_says_so() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "echo-1" },
            "spec": { "nodeName": "worker-1", "containers": [] },
            "status": { "phase": "Pending", "containerStatuses": [{
                "name": "echo", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": { "waiting": { "reason": "ImagePullBackOff", "message": "not found" } },
            }] },
        }))
        .expect("pod");
        let (node, state) = pod_state(&pod).expect("scheduled");
        assert_eq!(node, "worker-1");
        assert_eq!(state, Err("ImagePullBackOff not found".into()));
    }
}
