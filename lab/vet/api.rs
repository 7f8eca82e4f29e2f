//! An API server without nodes: it stores every object, and nothing happens to it. It serves HTTP on the loopback of the
//! host, for kubectl and other clients of scripts.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// The kinds that the server knows: group and version, resource, kind, and whether it has a namespace. Those that
/// Kubernetes 1.34 serves and that tests of clusters use.
const KINDS: [(&str, &str, &str, bool); 29] = [
    ("v1", "nodes", "Node", false),
    ("v1", "namespaces", "Namespace", false),
    ("v1", "pods", "Pod", true),
    ("v1", "services", "Service", true),
    ("v1", "endpoints", "Endpoints", true),
    ("v1", "configmaps", "ConfigMap", true),
    ("v1", "secrets", "Secret", true),
    ("v1", "serviceaccounts", "ServiceAccount", true),
    ("v1", "events", "Event", true),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim", true),
    ("v1", "persistentvolumes", "PersistentVolume", false),
    ("apps/v1", "deployments", "Deployment", true),
    ("apps/v1", "daemonsets", "DaemonSet", true),
    ("apps/v1", "statefulsets", "StatefulSet", true),
    ("apps/v1", "replicasets", "ReplicaSet", true),
    ("batch/v1", "jobs", "Job", true),
    ("batch/v1", "cronjobs", "CronJob", true),
    ("networking.k8s.io/v1", "ingresses", "Ingress", true),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", true),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", true),
    ("coordination.k8s.io/v1", "leases", "Lease", true),
    ("node.k8s.io/v1", "runtimeclasses", "RuntimeClass", false),
    ("storage.k8s.io/v1", "storageclasses", "StorageClass", false),
    ("rbac.authorization.k8s.io/v1", "roles", "Role", true),
    ("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding", true),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false),
    ("rbac.authorization.k8s.io/v1", "clusterrolebindings", "ClusterRoleBinding", false),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", false),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", true),
];

/// Group and version, resource, namespace, name.
type Key = (String, String, String, String);

#[derive(Default)]
struct Objects(Mutex<BTreeMap<Key, Value>>);

/// A server that ends when it is dropped.
pub(super) struct ApiServer {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ApiServer {
    /// Starts a server with these nodes; `ready` is the status of their condition `Ready`.
    pub(super) async fn start(nodes: &[&str], ready: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let objects = Arc::new(Objects::default());
        for namespace in ["default", "kube-system"] {
            objects.put(key("v1", "namespaces", "", namespace), json!({ "metadata": { "name": namespace } }));
        }
        for name in nodes {
            objects.put(key("v1", "nodes", "", name), node(name, ready));
        }
        let router = Router::new().fallback(answer).with_state(objects);
        let task = tokio::spawn(async move {
            // It ends with the task; an error of the listener ends it early, and clients see a closed port.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, task })
    }
}

fn node(name: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    let reason = if ready { "KubeletReady" } else { "KubeletNotReady" };
    let address = |kind: &str, value: &str| json!({ "type": kind, "address": value });
    json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "spec": {},
        "status": {
            "conditions": [{ "type": "Ready", "status": status, "reason": reason }],
            "addresses": [address("InternalIP", "10.5.0.10"), address("Hostname", name)],
            "nodeInfo": {
                "architecture": "arm64", "operatingSystem": "linux", "kubeletVersion": "v1.34.0", "osImage": "",
                "kernelVersion": "", "containerRuntimeVersion": "", "machineID": "", "systemUUID": "", "bootID": "",
                "kubeProxyVersion": "",
            },
        },
    })
}

fn key(version: &str, resource: &str, namespace: &str, name: &str) -> Key {
    (version.to_owned(), resource.to_owned(), namespace.to_owned(), name.to_owned())
}

impl Objects {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<Key, Value>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stores an object with the fields that a server sets, and returns it.
    fn put(&self, key: Key, mut object: Value) -> Value {
        let (version, resource, namespace, name) = &key;
        let kind =
            KINDS.iter().find(|known| known.0 == version && known.1 == resource).map_or("", |known| known.2);
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(name);
        object["metadata"]["uid"] = json!(format!("{resource}-{namespace}-{name}"));
        object["metadata"]["resourceVersion"] = json!("1");
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        self.with(|all| all.insert(key, object.clone()));
        object
    }

    /// The objects of a resource, of one namespace or of all.
    fn list(&self, version: &str, resource: &str, namespace: Option<&str>, query: &Selectors) -> Vec<Value> {
        self.with(|all| {
            let of = all.iter().filter(|(key, _)| key.0 == version && key.1 == resource);
            let of = of.filter(|(key, _)| namespace.is_none_or(|namespace| key.2 == namespace));
            of.map(|(_, object)| object).filter(|object| query.select(object)).cloned().collect()
        })
    }
}

/// The selectors of a list, as far as tests use them: equality.
struct Selectors {
    pairs: Vec<(String, String)>,
}

impl Selectors {
    fn of(query: &BTreeMap<String, String>) -> Self {
        let label = |key: &str| format!("/metadata/labels/{}", key.replace('~', "~0").replace('/', "~1"));
        let field = |key: &str| format!("/{}", key.replace('.', "/"));
        let pairs = |name: &str, pointer: &dyn Fn(&str) -> String| {
            let text = query.get(name).cloned().unwrap_or_default();
            let parts = text.split(',').filter_map(|part| {
                let (key, value) = part.split_once('=')?;
                Some((pointer(key.trim()), value.trim_start_matches('=').to_owned()))
            });
            parts.collect::<Vec<_>>()
        };
        Self { pairs: [pairs("labelSelector", &label), pairs("fieldSelector", &field)].concat() }
    }

    fn select(&self, object: &Value) -> bool {
        self.pairs
            .iter()
            .all(|(pointer, value)| object.pointer(pointer).is_some_and(|seen| seen == value.as_str()))
    }
}

/// The parts of a path below the version.
struct Path<'a> {
    version: String,
    resource: &'a str,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> Path<'a> {
    fn of(version: String, rest: &[&'a str]) -> Option<Self> {
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !is_part(rest) => {
                (Some(*namespace), rest)
            }
            _ => (None, rest),
        };
        let (resource, name) = match rest {
            [resource] => (*resource, None),
            [resource, name] | [resource, name, "status" | "scale"] => (*resource, Some(*name)),
            _ => return None,
        };
        Some(Self { version, resource, namespace, name })
    }

    fn key(&self, name: &str) -> Key {
        key(&self.version, self.resource, self.namespace.unwrap_or_default(), name)
    }
}

/// Whether the rest of a path below a namespace is a part of the namespace itself.
fn is_part(rest: &[&str]) -> bool {
    matches!(rest, ["status" | "finalize"])
}

async fn answer(
    State(objects): State<Arc<Objects>>,
    Query(query): Query<BTreeMap<String, String>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["readyz" | "livez" | "healthz"] => "ok".into_response(),
        ["version"] => reply(json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0" })),
        ["api"] => reply(json!({ "kind": "APIVersions", "versions": ["v1"] })),
        ["apis"] => reply(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups() })),
        ["api", "v1"] => resources("v1"),
        ["apis", group] => match groups().into_iter().find(|known| known["name"] == *group) {
            Some(group) => reply(group),
            None => not_found(),
        },
        ["apis", group, version] => resources(&format!("{group}/{version}")),
        ["api", "v1", rest @ ..] => on_objects(&objects, "v1".to_owned(), rest, &query, &method, &body),
        ["apis", group, version, rest @ ..] => {
            on_objects(&objects, format!("{group}/{version}"), rest, &query, &method, &body)
        }
        _ => not_found(),
    }
}

fn on_objects(
    objects: &Objects,
    version: String,
    rest: &[&str],
    query: &BTreeMap<String, String>,
    method: &Method,
    body: &[u8],
) -> Response {
    let Some(path) = Path::of(version, rest) else { return not_found() };
    let known = KINDS.iter().find(|known| known.0 == path.version && known.1 == path.resource);
    let Some((version, _, kind, _)) = known else { return not_found() };
    match (method, path.name) {
        (&Method::GET, Some(name)) => {
            objects.with(|all| all.get(&path.key(name)).cloned()).map_or_else(not_found, reply)
        }
        (&Method::GET, None) => {
            let items = objects.list(version, path.resource, path.namespace, &Selectors::of(query));
            if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
                return watched(items);
            }
            reply(json!({
                "kind": format!("{kind}List"), "apiVersion": version, "metadata": { "resourceVersion": "1" },
                "items": items,
            }))
        }
        (&Method::DELETE, Some(name)) => match objects.with(|all| all.remove(&path.key(name))) {
            Some(_) => reply(json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })),
            None => not_found(),
        },
        (&Method::POST | &Method::PUT | &Method::PATCH, name) => {
            // Clients send JSON or YAML, and the former is the latter.
            let Ok(object) = serde_yaml::from_slice::<Value>(body) else { return status(400, "BadRequest") };
            let of_body = object.pointer("/metadata/name").and_then(Value::as_str);
            let Some(name) = name.or(of_body).filter(|_| object.is_object()) else {
                return status(400, "BadRequest");
            };
            if method == Method::POST && objects.with(|all| all.contains_key(&path.key(name))) {
                return status(409, "AlreadyExists");
            }
            let code = if method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
            (code, reply(objects.put(path.key(name), object.clone()))).into_response()
        }
        _ => status(405, "MethodNotAllowed"),
    }
}

/// The objects as events, after which nothing happens.
fn watched(items: Vec<Value>) -> Response {
    let events = items.into_iter().map(|object| json!({ "type": "ADDED", "object": object }));
    let lines = events.map(|event| Ok::<_, io::Error>(format!("{event}\n")));
    let body = Body::from_stream(stream::iter(lines).chain(stream::pending()));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn groups() -> Vec<Value> {
    let mut versions: Vec<&str> =
        KINDS.iter().map(|kind| kind.0).filter(|version| version.contains('/')).collect();
    versions.dedup();
    let group = |version: &str| {
        let (name, number) = version.split_once('/').unwrap_or((version, "v1"));
        let version = json!({ "groupVersion": version, "version": number });
        json!({ "name": name, "kind": "APIGroup", "versions": [version], "preferredVersion": version })
    };
    versions.into_iter().map(group).collect()
}

fn resources(version: &str) -> Response {
    let resources: Vec<_> = KINDS
        .iter()
        .filter(|kind| kind.0 == version)
        .map(|(_, name, kind, namespaced)| {
            json!({ "name": name, "singularName": kind.to_lowercase(), "kind": kind, "namespaced": namespaced,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"] })
        })
        .collect();
    if resources.is_empty() {
        return not_found();
    }
    reply(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources }),
    )
}

fn reply(value: Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn not_found() -> Response {
    status(404, "NotFound")
}

fn status(code: u16, reason: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": reason,
    });
    (StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), reply(body)).into_response()
}
