//! Warm clusters: the lab saves a formed cluster and restores it in seconds.
//!
//! A saved cluster holds each node's memory and devices (QEMU's migration to a file) and its disk, all from
//! one moment, with the secrets and the administrator's credentials. It excludes the parts that belong to
//! the run: a restored cluster uses the switch and the registry of the new run.
//!
//! A cluster can be saved at two stages ([`SavedStage`]): when the nodes are up, before any late document
//! and any tailnet, which serves many scenarios; and when everything is configured, with the tailnet's
//! control server.
//!
//! A [`WarmKey`] identifies a saved cluster by all of its inputs. A different key leads to a cold start
//! with a reason, never to a wrong restore. The store writes each cluster atomically to its own directory,
//! with a checksum of every file.

mod key;
mod restore;
mod save;
mod saved;
mod store;

pub use key::{SavedImages, SavedStage, WarmKey};
pub(super) use key::{json, short_digest};
pub use save::{AfterSave, SaveError, SaveFigures};
pub use saved::{SavedAccess, SavedCluster, SavedFile, SavedNode};
pub use store::{Draft, Lookup, Snapshot, WarmEntry, WarmError, WarmStore};

/// How the start of a cluster uses the store.
#[derive(Debug)]
pub struct Warm {
    pub store: WarmStore,
    /// The saved cluster to restore; without it the cluster forms.
    pub restore: Option<Snapshot>,
    /// The key of the final state.
    pub key: WarmKey,
    /// The keys under which to save the cluster when it reaches their stages.
    pub keep: Vec<WarmKey>,
}
