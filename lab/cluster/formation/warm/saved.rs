//! What is written down of a saved cluster.

use lab_model::node::NodeName;
use lab_plan::config::{SecretsBundle, Talosconfig};
use lab_vm::machine::MemoryFormat;
use serde::{Deserialize, Serialize};

use super::{files::Sum, key::WarmKey};

/// A saved cluster, as its `snapshot.json` tells it. No secrets: those are in files beside it that
/// only their owner may read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedCluster {
    /// Everything that went into it.
    pub key: WarmKey,
    /// When it was saved, wall clock; the nodes wake up with this time.
    pub saved: jiff::Timestamp,
    /// How memory lies in its files.
    pub memory: MemoryFormat,
    /// Its nodes.
    pub nodes: Vec<SavedNode>,
    /// The files of its tailnet's control server, if that is saved with it.
    pub control_server: Vec<SavedFile>,
    /// Seconds that it took to form, on this host at that time.
    pub formed_in: f64,
    /// Seconds that its nodes stood still to be saved.
    pub stood_still: f64,
    /// Seconds that it took to save it, the sums included.
    pub saved_in: f64,
}

/// A saved node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedNode {
    /// Its name.
    pub name: NodeName,
    /// Memory and devices.
    pub memory: SavedFile,
    /// The disk.
    pub disk: SavedFile,
}

/// A file of a saved cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// Its name in the cluster's directory.
    pub file: String,
    /// What it must hold.
    pub sum: Sum,
}

/// The ways into a saved cluster.
#[derive(Clone, Debug)]
pub struct SavedAccess {
    /// The secrets that its nodes share.
    pub secrets: SecretsBundle,
    /// The administrator's client file for the machine API.
    pub talosconfig: Talosconfig,
    /// The administrator's kubeconfig; the port that it dials is the old run's.
    pub kubeconfig: String,
}
