//! Formation: starts a `Cluster` from a `Plan`, as concurrent steps.
//!
//! A [`Cluster`] owns processes. Each wait of formation is a step: it records events, has a budget, and fails
//! early when an observation shows that it cannot succeed. [`warm`] saves and restores formed clusters, and [`preload`]
//! makes disks that already contain the images of a cluster.
//!
//! [`Cluster::form`] returns a [`FormedCluster`]. Code that needs Kubernetes takes a [`FormedCluster`]. Code
//! that also runs before formation takes a [`Cluster`] and reads its [`FormationState`].

mod cluster;
mod container_runs;
mod diagnosis;
mod disk_files;
mod failure;
mod final_service;
#[expect(clippy::module_inception, reason = "formation is the idea of this folder")]
mod formation;
mod formation_state;
mod formed;
mod formed_node;
mod hold;
mod late;
mod narration;
mod network_plugin;
mod node_handle;
mod node_table;
mod preload;
mod readiness;
mod steps;
mod tailnet;
mod warm;

pub use cluster::{Cluster, Host};
pub use failure::{Cause, Failure, NoMachine, NotForwarded};
pub use final_service::FinalService;
pub use formation_state::{FormationState, KubernetesAccess, NotFormed};
pub use formed::FormedCluster;
pub use formed_node::FormedNode;
pub use hold::Hold;
pub use node_handle::{MachineState, NodeError, NodeHandle, Reboot};
pub use node_table::NodeTable;
pub use preload::{NotPreloaded, PreloadError, PreloadStore, Preloaded, Preloading};
pub use tailnet::{RealTailnet, Tailnet};
pub use warm::{
    AfterSave, Draft, Lookup, SaveError, SaveFigures, SavedAccess, SavedCluster, SavedFile, SavedImages,
    SavedNode, SavedStage, Snapshot, Warm, WarmEntry, WarmError, WarmKey, WarmStore,
};
