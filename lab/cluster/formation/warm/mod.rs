//! Warm clusters: a formed cluster is saved whole and handed out again in seconds.
//!
//! Saved are each node's memory and devices (QEMU's migration to a file) and its disk, at one
//! moment for all nodes, with the secrets and the administrator's access. What belongs to the run
//! and not to the cluster is not: the switch and the registry are the new run's own.
//!
//! There are two moments ([`SavedStage`]): when the nodes are up, before any late document and any tailnet,
//! which serves many scenarios; and when all is configured, with the tailnet's control server.
//!
//! A saved cluster is found by a [`WarmKey`]: everything that went into it. Another key is a cold
//! start with the reason, never a wrong restore. The store keeps each in a directory that appears
//! whole or not at all, with a checksum of every file.

mod files;
mod key;
mod restore;
mod save;
mod saved;
mod store;

pub use key::{SavedImages, SavedStage, WarmKey};
pub use save::{SaveError, SaveFigures};
pub use saved::{SavedAccess, SavedCluster, SavedFile, SavedNode};
pub use store::{Draft, Lookup, Snapshot, WarmEntry, WarmError, WarmStore};

/// What a cluster that is started has to do with the store.
#[derive(Debug)]
pub struct Warm {
    /// Where saved clusters are.
    pub store: WarmStore,
    /// The one that is restored; without one the cluster forms.
    pub restore: Option<Snapshot>,
    /// The key of what it comes to in the end.
    pub key: WarmKey,
    /// The keys under which it is saved when it has come to their stages.
    pub keep: Vec<WarmKey>,
}
