//! A formed cluster, for checks, experiments and warm saves.

use std::{fmt, sync::Arc};

use lab_plan::cluster::Plan;

use super::{
    cluster::Cluster,
    formation_state::{KubernetesAccess, NotFormed},
    formed_node::FormedNode,
    node_handle::NodeError,
    node_table::NodeTable,
};
use crate::kubernetes::KubernetesApi;

/// A cluster whose nodes have all been Ready. Its Kubernetes API is always available as a value, not as an
/// option. Clones are handles of the same cluster.
#[derive(Clone)]
pub struct FormedCluster {
    cluster: Arc<Cluster>,
    kubernetes: Arc<KubernetesAccess>,
}

impl FormedCluster {
    pub(super) fn new(cluster: Arc<Cluster>, kubernetes: Arc<KubernetesAccess>) -> Self {
        Self { cluster, kubernetes }
    }

    /// Returns the formed state of a cluster that another task forms, e.g. for the control channel.
    ///
    /// # Errors
    /// When the cluster has not formed yet.
    pub fn of(cluster: &Arc<Cluster>) -> Result<Self, NotFormed> {
        let kubernetes = Arc::clone(cluster.formation().formed()?);
        Ok(Self::new(Arc::clone(cluster), kubernetes))
    }

    /// Returns the underlying cluster with its LAN and machines.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub fn plan(&self) -> &Plan {
        self.cluster.plan()
    }

    pub fn kubernetes(&self) -> &KubernetesApi {
        &self.kubernetes.api
    }

    /// Returns the administrator's kubeconfig for use on the host.
    pub fn kubeconfig(&self) -> &str {
        &self.kubernetes.kubeconfig
    }

    /// Returns the Node objects, watched since formation. The watch notices a power loss of the control plane
    /// only after minutes. After a power cycle, start a new watch with [`NodeTable::watch`].
    pub fn nodes(&self) -> &NodeTable {
        &self.kubernetes.nodes
    }

    pub(super) fn access(&self) -> &Arc<KubernetesAccess> {
        &self.kubernetes
    }

    /// Returns the node with this name.
    ///
    /// # Errors
    /// When the node does not exist; the error lists the existing names.
    pub fn node(&self, name: impl fmt::Display) -> Result<FormedNode<'_>, NodeError> {
        Ok(FormedNode::new(self, self.cluster.node(name)?))
    }
}
