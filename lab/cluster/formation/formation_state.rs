//! How far a cluster has come in its formation, for everything that looks at it meanwhile: the control
//! channel, the published state of the run, the diagnosis of a late node, and the bundle of a failed run.

use std::sync::Arc;

use lab_model::events::Recorder;
use tokio_util::task::AbortOnDropHandle;

use super::node_table::NodeTable;
use crate::kubernetes::{KubernetesApi, record_kubernetes_events};

/// How far a cluster has come. It only goes back when a saved cluster does not come back and another forms.
#[derive(Clone, Default)]
pub enum FormationState {
    /// The control plane has not handed out the kubeconfig.
    #[default]
    Started,
    /// The control plane has handed out the administrator's kubeconfig, as the host uses it.
    Kubeconfig(Arc<str>),
    /// The API server was ready; not every node is.
    ApiServer(Arc<KubernetesAccess>),
    /// All nodes are Ready and have all their documents.
    Formed(Arc<KubernetesAccess>),
}

/// A question to a cluster that has not come far enough to answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has not formed yet: {lacks}")]
pub struct NotFormed {
    lacks: &'static str,
}

impl FormationState {
    /// The administrator's kubeconfig for the host.
    ///
    /// # Errors
    /// Before the control plane has handed it out.
    pub fn kubeconfig(&self) -> Result<&str, NotFormed> {
        match self {
            Self::Started => Err(self.lacks()),
            Self::Kubeconfig(text) => Ok(text),
            Self::ApiServer(access) | Self::Formed(access) => Ok(&access.kubeconfig),
        }
    }

    /// The Kubernetes API.
    ///
    /// # Errors
    /// Before the API server was ready.
    pub fn kubernetes(&self) -> Result<&KubernetesApi, NotFormed> {
        match self {
            Self::Started | Self::Kubeconfig(_) => Err(self.lacks()),
            Self::ApiServer(access) | Self::Formed(access) => Ok(&access.api),
        }
    }

    /// All that formation leaves.
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
            Self::Started => "its control plane has not handed out the kubeconfig",
            Self::Kubeconfig(_) => "its API server is not ready",
            Self::ApiServer(_) | Self::Formed(_) => "not all of its nodes are Ready",
        };
        NotFormed { lacks }
    }
}

/// The way into a cluster's Kubernetes, once its API server has answered.
pub struct KubernetesAccess {
    /// The administrator's kubeconfig for the host.
    pub kubeconfig: Arc<str>,
    /// The API server.
    pub api: KubernetesApi,
    /// What the API server says of the nodes, watched since then.
    pub nodes: NodeTable,
    /// What goes on beside the cluster and ends with this.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl KubernetesAccess {
    /// Starts the watch over the nodes.
    pub(super) fn new(kubeconfig: Arc<str>, api: KubernetesApi, recorder: &Recorder) -> Self {
        let nodes = NodeTable::watch(&api, recorder);
        Self { kubeconfig, api, nodes, _tasks: Vec::new() }
    }

    /// Has the Event objects of the API recorded from now on.
    #[must_use]
    pub(super) fn recording_events(mut self, recorder: Recorder) -> Self {
        self._tasks.push(record_kubernetes_events(&self.api, recorder));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_an_error_that_says_what_is_lacking() {
        let started = FormationState::default();
        let lacks = "the cluster has not formed yet: its control plane has not handed out the kubeconfig";
        assert_eq!(started.kubeconfig().unwrap_err().to_string(), lacks);
        assert!(started.kubernetes().is_err() && started.formed().is_err());

        let handed_out = FormationState::Kubeconfig("kind: Config".into());
        assert_eq!(handed_out.kubeconfig(), Ok("kind: Config"));
        let lacks = "the cluster has not formed yet: its API server is not ready";
        assert_eq!(handed_out.kubernetes().err().map(|error| error.to_string()).as_deref(), Some(lacks));
        assert!(handed_out.formed().is_err());
    }
}
