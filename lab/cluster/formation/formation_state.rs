//! The formation state of a cluster. Its readers are the control channel, the published state of the run, the
//! diagnosis of a late node, and the failure bundle.

use std::sync::Arc;

use lab_model::events::Recorder;
use tokio_util::task::AbortOnDropHandle;

use super::node_table::NodeTable;
use crate::kubernetes::{KubernetesApi, record_kubernetes_events, record_system_pods};

/// The progress of formation. The state returns to `Started` only when the restore of a saved cluster fails
/// and a new cluster forms instead.
#[derive(Clone, Default)]
pub enum FormationState {
    /// The control plane is not configured, so nothing can be asked of its Kubernetes.
    #[default]
    Started,
    /// The administrator's kubeconfig exists, as the host uses it.
    Kubeconfig(Arc<str>),
    /// The API server has been ready, but not all nodes are Ready yet.
    ApiServer(Arc<KubernetesAccess>),
    /// All nodes are Ready and all late documents are applied.
    Formed(Arc<KubernetesAccess>),
}

/// The cluster has not reached the formation state that the call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has not formed yet: {lacks}")]
pub struct NotFormed {
    lacks: &'static str,
}

impl FormationState {
    /// Returns the administrator's kubeconfig for use on the host.
    ///
    /// # Errors
    /// Before it exists.
    pub fn kubeconfig(&self) -> Result<&str, NotFormed> {
        match self {
            Self::Started => Err(self.lacks()),
            Self::Kubeconfig(text) => Ok(text),
            Self::ApiServer(access) | Self::Formed(access) => Ok(&access.kubeconfig),
        }
    }

    /// Returns the client of the Kubernetes API.
    ///
    /// # Errors
    /// Before the API server has been ready.
    pub fn kubernetes(&self) -> Result<&KubernetesApi, NotFormed> {
        match self {
            Self::Started | Self::Kubeconfig(_) => Err(self.lacks()),
            Self::ApiServer(access) | Self::Formed(access) => Ok(&access.api),
        }
    }

    /// Returns the result of formation.
    ///
    /// # Errors
    /// Before the cluster has formed.
    pub(super) fn formed(&self) -> Result<&Arc<KubernetesAccess>, NotFormed> {
        match self {
            Self::Formed(access) => Ok(access),
            Self::Started | Self::Kubeconfig(_) | Self::ApiServer(_) => Err(self.lacks()),
        }
    }

    fn lacks(&self) -> NotFormed {
        let lacks = match self {
            Self::Started => "the administrator's kubeconfig does not exist yet",
            Self::Kubeconfig(_) => "its API server is not ready",
            Self::ApiServer(_) | Self::Formed(_) => "not all of its nodes are Ready",
        };
        NotFormed { lacks }
    }
}

/// Access to the Kubernetes API of a cluster whose API server has responded.
pub struct KubernetesAccess {
    /// The administrator's kubeconfig for use on the host.
    pub kubeconfig: Arc<str>,
    pub api: KubernetesApi,
    /// The Node objects, watched since the creation of this struct.
    pub nodes: NodeTable,
    /// Background tasks. Drop aborts them.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl KubernetesAccess {
    /// Starts the watch of the Node objects.
    pub(super) fn new(kubeconfig: Arc<str>, api: KubernetesApi, recorder: &Recorder) -> Self {
        let nodes = NodeTable::watch(&api, recorder);
        Self { kubeconfig, api, nodes, _tasks: Vec::new() }
    }

    /// Starts to record Kubernetes Events, and the states of the system's pods.
    #[must_use]
    pub(super) fn recording_events(mut self, recorder: Recorder) -> Self {
        self._tasks.push(record_kubernetes_events(&self.api, recorder.clone()));
        self._tasks.push(record_system_pods(&self.api, recorder));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_an_error_that_says_what_is_lacking() {
        let started = FormationState::default();
        let lacks = "the cluster has not formed yet: the administrator's kubeconfig does not exist yet";
        assert_eq!(started.kubeconfig().unwrap_err().to_string(), lacks);
        assert!(started.kubernetes().is_err() && started.formed().is_err());

        let handed_out = FormationState::Kubeconfig("kind: Config".into());
        assert_eq!(handed_out.kubeconfig(), Ok("kind: Config"));
        let lacks = "the cluster has not formed yet: its API server is not ready";
        assert_eq!(handed_out.kubernetes().err().map(|error| error.to_string()).as_deref(), Some(lacks));
        assert!(handed_out.formed().is_err());
    }
}
