//! From a scenario to its verdict: start, form, check, judge.

use std::sync::Arc;

use super::{
    check::CheckSpec,
    checks::{Observation, look},
    expectation::SeenFailure,
    file::Scenario,
};
use crate::{
    cluster::{Cluster, Failure},
    events::{Happening, Outcome, Recorder, Subject},
    host::WhenShort,
    network::CAPTURE_LIMIT,
    session::{ClusterRequest, RunningCluster, Session, StartError, write_bundle},
    words::chain,
};
use futures::{FutureExt, future::BoxFuture};

/// What a scenario came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it came to what was expected.
    pub outcome: Outcome,
    /// Every failure that was seen, expected or not.
    pub seen: Vec<SeenFailure>,
    /// The host could not carry the cluster; says nothing about the images.
    pub host_unable: bool,
}

impl Scenario {
    /// What to start for this scenario.
    pub fn request(&self, when_short: WhenShort) -> ClusterRequest {
        ClusterRequest {
            spec: self.cluster.clone(),
            faults: self.faults.clone(),
            budgets: self.budgets.clone(),
            when_short,
            pretended_memory: self.host_memory,
            workloads: self
                .checks
                .iter()
                .flat_map(|spec| spec.check.images())
                .map(|image| (*image).to_owned())
                .collect(),
        }
    }

    /// Runs the scenario in `session` and takes its cluster down again.
    pub fn run<'a>(&'a self, session: &'a Session, when_short: WhenShort) -> BoxFuture<'a, Verdict> {
        self.carried_out(session, when_short).boxed()
    }

    async fn carried_out(&self, session: &Session, when_short: WhenShort) -> Verdict {
        let recorder = session.recorder();
        recorder.record(Happening::ScenarioStarted {
            scenario: self.name.clone(),
            question: self.question.clone(),
        });
        for text in &self.warnings {
            recorder.record(Happening::Note { subject: Subject::Cluster, text: text.clone() });
        }
        let (seen, host_unable) = self.observe(session, when_short).await;
        let outcome = self.expect.judge(&seen);
        recorder
            .record(Happening::ScenarioFinished { scenario: self.name.clone(), outcome: outcome.clone() });
        Verdict { outcome, seen, host_unable }
    }

    async fn observe(&self, session: &Session, when_short: WhenShort) -> (Vec<SeenFailure>, bool) {
        let recorder = session.recorder();
        let running = match session.start(self.request(when_short)).await {
            Ok(running) => running,
            Err(error) => {
                self.skip_checks(recorder, "the cluster was not started");
                let host_unable = matches!(error, StartError::Session(_));
                return (vec![SeenFailure::Refused { cause: one_line(&error) }], host_unable);
            }
        };
        self.start_captures(&running.cluster);
        let seen = match running.cluster.form().await {
            Err(failure) => {
                self.skip_checks(recorder, "the cluster did not form");
                vec![seen_failure(&failure)]
            }
            Ok(()) => {
                // A kubeconfig helps whoever looks in while the checks run; they do not need it.
                let _ = session.save_kubeconfig(&running.cluster);
                self.check_all(&running.cluster).await
            }
        };
        self.keep_evidence(&running, &seen).await;
        running.shut_down().await;
        (seen, false)
    }

    /// Frames are evidence beside the checks': a capture that cannot be had is told and stops nothing.
    fn start_captures(&self, cluster: &Cluster) {
        for link in &self.captures {
            if let Err(error) = cluster.lan().start_capture(link.clone(), None, CAPTURE_LIMIT) {
                let text = chain(&error);
                cluster.recorder().record(Happening::Note { subject: Subject::Cluster, text });
            }
        }
    }

    /// A run that came to something unexpected leaves a bundle.
    async fn keep_evidence(&self, running: &RunningCluster, seen: &[SeenFailure]) {
        if let Outcome::Failed { cause } = self.expect.judge(seen)
            && let Err(error) = write_bundle(&running.cluster, &cause).await
        {
            let text = error.to_string();
            running.cluster.recorder().record(Happening::Note { subject: Subject::Cluster, text });
        }
    }

    async fn check_all(&self, cluster: &Arc<Cluster>) -> Vec<SeenFailure> {
        let mut seen = Vec::new();
        for spec in &self.checks {
            let recorder = cluster.recorder();
            recorder.record(Happening::CheckStarted { check: spec.id.clone(), title: spec.title() });
            let observation = look(cluster, &spec.check).await;
            if let Some(cause) = observation.cause() {
                seen.push(SeenFailure::Check { check: spec.id.clone(), cause });
            }
            recorder.record(finished(spec, observation));
        }
        seen
    }

    fn skip_checks(&self, recorder: &Recorder, cause: &str) {
        for spec in &self.checks {
            recorder.record(Happening::CheckFinished {
                check: spec.id.clone(),
                title: spec.title(),
                outcome: Outcome::NotRun { cause: cause.to_owned() },
                evidence: Vec::new(),
            });
        }
    }
}

fn finished(spec: &CheckSpec, observation: Observation) -> Happening {
    Happening::CheckFinished {
        check: spec.id.clone(),
        title: spec.title(),
        outcome: match observation.cause() {
            None => Outcome::Passed,
            Some(cause) => Outcome::Failed { cause },
        },
        evidence: observation.evidence,
    }
}

fn seen_failure(failure: &Failure) -> SeenFailure {
    let node = match &failure.subject {
        Subject::Cluster => None,
        Subject::Node(node) => Some(node.clone()),
    };
    SeenFailure::Step { step: failure.step, node, cause: failure.reason() }
}

fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().replace('\n', " ")
}
