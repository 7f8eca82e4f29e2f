//! A cluster that has formed: what checks, experiments and the saving of clusters work on.

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

/// A cluster whose nodes have all been Ready. Its Kubernetes API is known, so nothing of it has to be asked
/// for. Clones are handles of the same cluster.
#[derive(Clone)]
pub struct FormedCluster {
    cluster: Arc<Cluster>,
    kubernetes: Arc<KubernetesAccess>,
}

impl FormedCluster {
    pub(super) fn new(cluster: Arc<Cluster>, kubernetes: Arc<KubernetesAccess>) -> Self {
        Self { cluster, kubernetes }
    }

    /// A cluster that others form, as the control channel sees it.
    ///
    /// # Errors
    /// When it has not formed yet.
    pub fn of(cluster: &Arc<Cluster>) -> Result<Self, NotFormed> {
        let kubernetes = Arc::clone(cluster.formation().formed()?);
        Ok(Self::new(Arc::clone(cluster), kubernetes))
    }

    /// Its LAN, its machines and what else it has had since it was started.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// What it was started from.
    pub fn plan(&self) -> &Plan {
        self.cluster.plan()
    }

    /// The API server.
    pub fn kubernetes(&self) -> &KubernetesApi {
        &self.kubernetes.api
    }

    /// The administrator's kubeconfig for the host.
    pub fn kubeconfig(&self) -> &str {
        &self.kubernetes.kubeconfig
    }

    /// What the API server says of the nodes, watched since formation. It takes minutes to notice that a
    /// control plane has lost power: what counts after that is asked by a watch of its own
    /// ([`NodeTable::watch`]).
    pub fn nodes(&self) -> &NodeTable {
        &self.kubernetes.nodes
    }

    pub(super) fn access(&self) -> &Arc<KubernetesAccess> {
        &self.kubernetes
    }

    /// The node of that name.
    ///
    /// # Errors
    /// When there is none; the error names those that there are.
    pub fn node(&self, name: impl fmt::Display) -> Result<FormedNode<'_>, NodeError> {
        Ok(FormedNode::new(self, self.cluster.node(name)?))
    }
}
