//! `ClusterSpec` -> `Plan` -> live `Cluster`: formation as concurrent steps.
//!
//! A [`ClusterSpec`] says what is wanted, a [`Plan`] what will be done; both are plain data. A
//! [`Cluster`] is live: it owns processes, and everything it waits for is a step that is announced
//! on the event stream, bounded by a budget and ended early by whatever makes it hopeless.
//!
//! [`Cluster::form`] returns a [`FormedCluster`]. Code that needs Kubernetes takes that; code that runs
//! before, or in both states, takes a `Cluster` and asks for its [`FormationState`].

mod budget;
#[expect(clippy::module_inception, reason = "the live cluster is the idea of this folder")]
mod cluster;
mod config_check;
mod diagnosis;
mod failure;
mod fault;
mod formation;
mod formation_state;
mod formed;
mod formed_node;
mod hold;
mod images;
mod late;
mod network_plugin;
mod node_config;
mod node_handle;
mod node_table;
mod order;
mod plan;
mod plan_error;
mod readiness;
mod size;
mod spec;
mod steps;
mod tailnet;
mod validation;
mod warm;

pub use budget::Budgets;
pub use cluster::{Cluster, Host};
pub use failure::{Cause, Failure, NoMachine, NotForwarded};
pub use fault::Fault;
pub use formation_state::{FormationState, KubernetesAccess, NotFormed};
pub use formed::FormedCluster;
pub use formed_node::FormedNode;
pub use hold::Hold;
pub use images::{ImageDelivery, MissingImages};
pub use network_plugin::NetworkPlugin;
pub use node_config::OwnConfigChange;
pub use node_handle::{MachineState, NodeError, NodeHandle, Reboot};
pub use node_table::NodeTable;
pub use order::{Capacity, StartDecision, StartOrder};
pub use plan::{
    KUBERNETES_API_PORT, MACHINE_API_PORT, NodePlan, Plan, PlanInputs, PreparedImage, REGISTRY_PORT,
};
pub use plan_error::PlanError;
pub use size::{InvalidSize, Size};
pub use spec::{
    ClusterSpec, FIRST_NODE_HOST, ImageSource, NetworkSpec, NodeSpec, Patch, PatchSet, RoleRule,
    TalosContract, default_role_rules,
};
pub use tailnet::{
    ControlServerState, KeyState, OUTSIDE_CLIENT, RealTailnet, RouteApproval, Tailnet, TailnetSpec,
    TailnetSpecError,
};
pub use validation::{SpecError, SpecSubject, SpecWarning, TAILNET};
pub use warm::{
    Draft, Lookup, SaveError, SaveFigures, SavedAccess, SavedCluster, SavedFile, SavedImages, SavedNode,
    Snapshot, Stage, Warm, WarmEntry, WarmError, WarmKey, WarmStore,
};
