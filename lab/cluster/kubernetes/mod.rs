//! What the lab asks of the Kubernetes API: Node Ready, workloads, network probes.
//!
//! Layers above (formation, checks) decide when to ask; this module knows how. The API server is
//! dialled through a forwarded port on the host's loopback and verified against the address that
//! its certificate carries.

mod access;
mod condition;
mod echo;
mod events;
mod manifest;
mod node;
mod objects;
mod probe;
mod service;
mod watch;

pub use access::{KubernetesApi, KubernetesError, forwarded_kubeconfig};
pub use condition::{has_boot_id, is_ready};
pub use echo::{ECHO_PORT, EchoPod, EchoWorkload, WASM_HANDLER, WASM_RUNTIME_CLASS};
pub use events::record_kubernetes_events;
pub use node::{NodeChange, NodeFacts, Readiness as NodeReadiness, node_changes, node_facts};
pub use objects::{ObjectDump, dump_objects};
pub use probe::{ProbeReply, Prober, ResolveReply};
pub use service::{CLUSTER_DNS, ready_endpoint};
