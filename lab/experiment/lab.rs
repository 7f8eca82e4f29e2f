//! The lab of an experiment, and the clusters that form in it.

use std::{ops::Deref, time::Duration};

use lab_cluster::formation::{Failure, FormedCluster};
use lab_model::{
    Ending,
    events::Outcome,
    workloads::{ECHO_IMAGE, WASM_IMAGE},
};
use lab_plan::cluster::ClusterSpec;
use lab_vm::host::WhenShort;

use crate::{
    scenario::{
        Check,
        checks::{Fixtures, look},
    },
    session::{ClusterRequest, RunningCluster, Session, SessionError, SessionOptions, Start, StartError},
};

/// How long an experiment waits for memory that other runs on the host have.
const MEMORY_PATIENCE: Duration = Duration::from_secs(3600);

/// A run for an experiment.
pub struct Lab {
    session: Session,
}

/// Why a cluster did not form.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// It was not started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A step of its formation failed.
    #[error(transparent)]
    Form(#[from] Failure),
}

/// A check that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("check {check}: {cause}")]
pub struct CheckFailed {
    /// The check's name.
    pub check: &'static str,
    /// What was seen that is wrong.
    pub cause: String,
}

impl Lab {
    /// Opens a run.
    ///
    /// # Errors
    /// When the host lacks something.
    pub async fn open(options: SessionOptions) -> Result<Self, SessionError> {
        Ok(Self { session: Session::open(options).await? })
    }

    /// Forms a cluster, or restores a saved one like it.
    ///
    /// # Errors
    /// When it is not started, or does not form.
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
    /// When the report cannot be written.
    pub async fn close(self, outcome: Outcome) -> Result<(), SessionError> {
        let ending = if outcome.passed() { Ending::Passed } else { Ending::Failed };
        self.session.close(outcome, ending).await.map(drop)
    }
}

/// A formed cluster of an experiment. Dropping it ends it at once, [`LabCluster::shut_down`] in order.
pub struct LabCluster {
    fixtures: Fixtures,
    running: RunningCluster,
}

impl LabCluster {
    /// Looks at the cluster, and returns what was seen.
    ///
    /// # Errors
    /// When the check does not pass.
    pub async fn check(&self, check: impl Check) -> Result<Vec<String>, CheckFailed> {
        let seen = look(&self.fixtures, &check).await;
        match seen.cause() {
            None => Ok(seen.evidence),
            Some(cause) => Err(CheckFailed { check: check.name(), cause }),
        }
    }

    /// Ends the cluster.
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
