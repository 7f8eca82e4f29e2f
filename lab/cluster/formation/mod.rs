//! `Plan` -> live `Cluster`: formation as concurrent steps.
//!
//! A [`Cluster`] is live: it owns processes, and everything it waits for is a step that is announced
//! on the event stream, bounded by a budget and ended early by whatever makes it hopeless. [`warm`] saves
//! formed clusters and restores them.

mod cluster;
mod diagnosis;
mod failure;
#[expect(clippy::module_inception, reason = "formation is the idea of this folder")]
mod formation;
mod hold;
mod late;
mod network_plugin;
mod readiness;
mod steps;
mod tailnet;
mod warm;

pub use cluster::{Cluster, Host};
pub use failure::{Cause, Failure};
pub use hold::Hold;
pub use tailnet::{RealTailnet, Tailnet};
pub use warm::{
    Draft, Lookup, SaveError, SaveFigures, SavedAccess, SavedCluster, SavedFile, SavedImages, SavedNode,
    Snapshot, Stage, Warm, WarmEntry, WarmError, WarmKey, WarmStore,
};
