//! Client of the Kubernetes API: node readiness, workloads, network probes.
//!
//! Formation and checks decide when to send a request; this module implements the requests. Connections go
//! to a forwarded port on the host's loopback. TLS verifies the server against the node address in its
//! certificate.

mod access;
mod condition;
mod dynamic;
mod echo;
mod events;
mod lease;
mod node;
mod objects;
mod pod;
mod probe;
mod service;
mod system;
mod watch;

pub use access::{KubernetesApi, KubernetesError, Unready};
pub use condition::{has_boot_id, is_ready};
pub use dynamic::{DEFAULT_NAMESPACE, Selection};
pub use echo::{ECHO_PORT, EchoPod, EchoWorkload, WASM_RUNTIME_CLASS, WasmWorkload};
pub use events::record_kubernetes_events;
pub use lease::{Renewals, not_renewed};
pub use node::{NodeChange, NodeFacts, Readiness as NodeReadiness, node_changes, node_facts};
pub use objects::{ObjectDump, dump_objects};
pub use pod::{pod_line, record_system_pods, static_pod_line, unready_static_pod};
pub use probe::{ProbeReply, Prober, ResolveReply, ScanReply};
pub use service::{CLUSTER_DNS, ready_endpoint};
pub use system::SystemPods;
pub(crate) use system::is_system_namespace;
