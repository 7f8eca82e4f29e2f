//! The lab of an experiment, and its clusters.

use std::{ops::Deref, time::Duration};

use lab_cluster::formation::{Failure, FormedCluster};
use lab_model::{
    Ending,
    events::Outcome,
    workloads::{ECHO_IMAGE, WASM_IMAGE},
};
use lab_plan::{cluster::ClusterSpec, scenario::Start};
use lab_vm::host::WhenShort;

use crate::{
    scenario::{
        Check,
        checks::{Fixtures, look},
    },
    session::{ClusterRequest, RunningCluster, Session, SessionError, SessionOptions, StartError},
};

/// How long an experiment waits for memory that other runs on the host use.
const MEMORY_PATIENCE: Duration = Duration::from_secs(3600);

pub struct Lab {
    session: Session,
}

#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The cluster was not started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A step of the formation failed.
    #[error(transparent)]
    Form(#[from] Failure),
}

/// A failed check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("check {check}: {cause}")]
pub struct CheckFailed {
    pub check: &'static str,
    /// The observed problem.
    pub cause: String,
}

impl Lab {
    /// Opens a run.
    ///
    /// # Errors
    /// If the host does not meet a requirement.
    pub async fn open(options: SessionOptions) -> Result<Self, SessionError> {
        Ok(Self { session: Session::open(options).await? })
    }

    /// Forms a cluster, or restores a matching saved cluster.
    ///
    /// # Errors
    /// If the cluster is not started, or does not form.
    pub async fn form(&self, spec: ClusterSpec) -> Result<LabCluster, ExperimentError> {
        let request = ClusterRequest {
            when_short: WhenShort::WaitUpTo(MEMORY_PATIENCE),
            workloads: [ECHO_IMAGE, WASM_IMAGE].map(str::to_owned).into(),
            start: Start::Warm,
            ..ClusterRequest::new(spec)
        };
        let running = self.session.start(request).await?;
        let formed = self.session.form(&running.cluster).await?;
        Ok(LabCluster { fixtures: Fixtures::of(formed), running })
    }

    /// Ends the run.
    ///
    /// # Errors
    /// If the report cannot be written.
    pub async fn close(self, outcome: Outcome) -> Result<(), SessionError> {
        let ending = if outcome.passed() { Ending::Passed } else { Ending::Failed };
        self.session.close(outcome, ending).await.map(drop)
    }
}

/// A formed cluster of an experiment. Drop ends it immediately; [`LabCluster::shut_down`] shuts it down in
/// order.
pub struct LabCluster {
    fixtures: Fixtures,
    running: RunningCluster,
}

impl LabCluster {
    /// Runs a check on the cluster, and returns the evidence.
    ///
    /// # Errors
    /// If the check fails.
    pub async fn check(&self, check: impl Check) -> Result<Vec<String>, CheckFailed> {
        let seen = look(&self.fixtures, &check).await;
        match seen.cause() {
            None => Ok(seen.evidence),
            Some(cause) => Err(CheckFailed { check: check.name(), cause }),
        }
    }

    /// Shuts the cluster down.
    pub async fn shut_down(self) {
        drop(self.fixtures);
        self.running.shut_down().await;
    }
}

impl Deref for LabCluster {
    type Target = FormedCluster;

    fn deref(&self) -> &FormedCluster {
        self.fixtures.formed()
    }
}
