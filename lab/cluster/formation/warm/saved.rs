//! The manifest of a saved cluster.

use lab_model::node::NodeName;
use lab_plan::config::{SecretsBundle, Talosconfig};
use lab_vm::machine::MemoryFormat;
use serde::{Deserialize, Serialize};

use super::key::WarmKey;
use crate::formation::disk_files::Sum;

/// A saved cluster as in its `snapshot.json`. It holds no secrets: those are in separate files that only
/// their owner can read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedCluster {
    pub key: WarmKey,
    /// Wall-clock time of the save; restored nodes start with this time.
    pub saved: jiff::Timestamp,
    /// The format of the memory files.
    pub memory: MemoryFormat,
    pub nodes: Vec<SavedNode>,
    /// The files of the tailnet's control server, if it is saved with the cluster.
    pub control_server: Vec<SavedFile>,
    /// Seconds that the formation took, on this host at that time.
    pub formed_in: f64,
    /// Seconds during which the nodes were paused for the save.
    pub stood_still: f64,
    /// Seconds that the save took, checksums included.
    pub saved_in: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedNode {
    pub name: NodeName,
    /// Memory and devices.
    pub memory: SavedFile,
    pub disk: SavedFile,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// The file name in the cluster's directory.
    pub file: String,
    /// The expected checksum.
    pub sum: Sum,
}

/// The credentials of a saved cluster.
#[derive(Clone, Debug)]
pub struct SavedAccess {
    /// The secrets that its nodes share.
    pub secrets: SecretsBundle,
    /// The administrator's client file for the machine API.
    pub talosconfig: Talosconfig,
    /// The administrator's kubeconfig; its server port is the port of the old run.
    pub kubeconfig: String,
}
