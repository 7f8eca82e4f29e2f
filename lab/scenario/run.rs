//! Runs a scenario: starts and forms the cluster, runs the checks, and returns the verdict.

use std::{
    io,
    path::{Path, PathBuf},
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    control::ControlServer,
    formation::{Cluster, Failure, FormedCluster, SavedStage},
};
use lab_model::{
    Diagnostic,
    events::{EventKind, Outcome, Recorder, Subject},
    files::{comes_from_exhaustion, directory_of, read_text_bounded},
    words::chain,
};
use lab_plan::scenario::{Expectation, ScenarioError, SeenFailure};
use lab_vm::{host::WhenShort, machine::MachineFailure, network::CAPTURE_LIMIT};

use super::{
    checks::{CHECKS, Check, Fixtures, Observation, look},
    named_file::{LARGEST_FILE, read_named},
};
use crate::session::{ClusterRequest, RunningCluster, Session, StartError, write_bundle};

/// The result of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the scenario met its expectation.
    pub outcome: Outcome,
    /// All observed failures, expected or not.
    pub seen: Vec<SeenFailure>,
    /// The host could not run the cluster. This is not a result about the images.
    pub host_unable: bool,
}

/// A scenario with checks of live clusters.
pub type Scenario = lab_plan::scenario::Scenario<dyn Check>;

type CheckSpec = lab_plan::scenario::CheckSpec<dyn Check>;

/// Reads a scenario file and the files that it names.
///
/// # Errors
/// If the file cannot be read or is invalid. The error lists all problems.
pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    load_allowing(path, &[])
}

/// Reads a scenario file and the files that it names. These must be in its directory or below `allowed`: the scenario may
/// be a stranger's, who must not choose what is read of this host.
///
/// # Errors
/// See [`load`].
pub fn load_allowing(path: &Path, allowed: &[PathBuf]) -> Result<Scenario, ScenarioError> {
    let file = path.display().to_string();
    let text = read_text_bounded(path, LARGEST_FILE).map_err(|error| {
        let problem = Diagnostic::of_file(format!("the scenario file cannot be read: {error}"))
            .help("give the path of a scenario, e.g. one in scenarios/");
        ScenarioError::new(&file, "", vec![problem])
    })?;
    let directory = directory_of(path);
    parse(&file, &text, directory, &|path| read_named(path, directory, allowed))
}

/// Parses the text of a scenario file; see [`Scenario::parse`].
///
/// # Errors
/// If the text is invalid. The error lists all problems.
pub fn parse(
    file: &str,
    text: &str,
    directory: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Scenario, ScenarioError> {
    Scenario::parse(file, text, directory, read, CHECKS)
}

/// Why a scenario needs the permission to run programs on this host, if it does.
pub fn needs_permission(scenario: &Scenario) -> Option<String> {
    let spec = scenario.running_programs().next()?;
    Some(format!(
        "the check {} of the scenario {} runs a program on this host with your rights (WHEN {}); read the scenario and \
         its files, and allow them with --allow-run",
        spec.id, scenario.name, spec.words.when
    ))
}

/// The cluster request of a scenario.
pub fn request(scenario: &Scenario, when_short: WhenShort) -> ClusterRequest {
    let images = scenario.checks.iter().flat_map(|spec| spec.check.images());
    ClusterRequest {
        spec: scenario.cluster.clone(),
        faults: scenario.faults.clone(),
        budgets: scenario.budgets.clone(),
        when_short,
        pretended_memory: scenario.host_memory,
        start: scenario.start,
        snapshot: None,
        keep: SavedStage::Formed,
        title: scenario.name.clone(),
        workloads: images.map(str::to_owned).collect(),
    }
}

/// Runs a scenario in `session` and shuts its cluster down.
pub fn run<'a>(
    scenario: &'a Scenario,
    session: &'a Session,
    when_short: WhenShort,
) -> BoxFuture<'a, Verdict> {
    Run { scenario }.to_verdict(session, when_short).boxed()
}

#[derive(Clone, Copy)]
struct Run<'a> {
    scenario: &'a Scenario,
}

impl Run<'_> {
    async fn to_verdict(self, session: &Session, when_short: WhenShort) -> Verdict {
        let recorder = session.recorder();
        recorder.record(EventKind::ScenarioStarted {
            scenario: self.scenario.name.clone(),
            question: self.scenario.question.clone(),
        });
        for text in &self.scenario.warnings {
            recorder.record(EventKind::Note { subject: Subject::Cluster, text: text.clone() });
        }
        let (seen, host_unable) = self.observe(session, when_short).await;
        let outcome = self.scenario.expect.judge(&seen);
        recorder.record(EventKind::ScenarioFinished {
            scenario: self.scenario.name.clone(),
            outcome: outcome.clone(),
        });
        Verdict { outcome, seen, host_unable }
    }

    async fn observe(&self, session: &Session, when_short: WhenShort) -> (Vec<SeenFailure>, bool) {
        let recorder = session.recorder();
        if let Some(cause) = needs_permission(self.scenario).filter(|_| !session.allows_programs()) {
            self.skip_checks(recorder, "the scenario was refused");
            return (vec![SeenFailure::Refused { cause }], false);
        }
        let running = match session.start(request(self.scenario, when_short)).await {
            Ok(running) => running,
            Err(error) => {
                self.skip_checks(recorder, "the cluster was not started");
                let host_unable = matches!(error, StartError::Session(_)) || comes_from_exhaustion(&error);
                return (vec![SeenFailure::Refused { cause: one_line(&error) }], host_unable);
            }
        };
        self.start_captures(&running.cluster);
        // From now on, other commands may access the cluster. If this fails, the run continues.
        let _control = self.open_to_others(session, &running);
        let host_unable;
        let seen = match session.form(&running.cluster).await {
            Err(failure) => {
                host_unable = failure.is_of_the_host();
                let seen = vec![seen_failure(&failure)];
                let step = format!("step \"{}\"", failure.step.label());
                self.pause_if_unexpected(session, &running, &seen, &step).await;
                self.skip_checks(recorder, "the cluster did not form");
                seen
            }
            Ok(formed) => {
                let _ = session.publish(&running.cluster, "checking");
                let seen = self.check_all(session, &running, &formed).await;
                let lost = running.cluster.lost_machines();
                host_unable = !seen.is_empty() && lost.iter().any(MachineFailure::is_of_the_host);
                self.pause_if_unexpected(session, &running, &seen, "the end of its checks").await;
                seen
            }
        };
        self.keep_evidence(&running, &seen).await;
        running.shut_down().await;
        (seen, host_unable)
    }

    /// Publishes the cluster and serves its control channel.
    fn open_to_others(&self, session: &Session, running: &RunningCluster) -> Option<ControlServer> {
        let opened = ControlServer::start(&running.cluster).map_err(|error| error.to_string());
        let published = session.publish(&running.cluster, "forming").map_err(|error| error.to_string());
        for error in [opened.as_ref().err(), published.as_ref().err()].into_iter().flatten() {
            let text = format!("other commands do not find this cluster: {error}");
            session.recorder().record(EventKind::Note { subject: Subject::Cluster, text });
        }
        opened.ok()
    }

    /// Pauses if the run pauses at failures and the verdict can no longer pass.
    async fn pause_if_unexpected(
        &self,
        session: &Session,
        running: &RunningCluster,
        seen: &[SeenFailure],
        at: &str,
    ) {
        if let Outcome::Failed { cause } = self.scenario.expect.judge(seen)
            && let Err(error) = session.pause_at(&running.cluster, at, &cause).await
        {
            let text = format!("the run cannot pause: {error}");
            session.recorder().record(EventKind::Note { subject: Subject::Cluster, text });
        }
    }

    /// Captured frames are additional evidence. If a capture fails, the run notes this and continues.
    fn start_captures(&self, cluster: &Cluster) {
        for link in &self.scenario.captures {
            if let Err(error) = cluster.lan().start_capture(link.clone(), None, CAPTURE_LIMIT) {
                let text = chain(&error);
                cluster.recorder().record(EventKind::Note { subject: Subject::Cluster, text });
            }
        }
    }

    /// Writes a bundle if the result is unexpected.
    async fn keep_evidence(&self, running: &RunningCluster, seen: &[SeenFailure]) {
        if let Outcome::Failed { cause } = self.scenario.expect.judge(seen)
            && let Err(error) = write_bundle(&running.cluster, &cause).await
        {
            let text = error.to_string();
            running.cluster.recorder().record(EventKind::Note { subject: Subject::Cluster, text });
        }
    }

    async fn check_all(
        &self,
        session: &Session,
        running: &RunningCluster,
        formed: &FormedCluster,
    ) -> Vec<SeenFailure> {
        let recorder = session.recorder();
        let fixtures = Fixtures::of(formed.clone());
        let mut seen = Vec::new();
        for (done, spec) in self.scenario.checks.iter().enumerate() {
            if session.has_paused() {
                self.skip_from(done, recorder, "the run was paused at an earlier check and then ended");
                break;
            }
            recorder.record(EventKind::CheckStarted { check: spec.id.clone(), title: spec.title() });
            let mut observation = look(&fixtures, &*spec.check).await;
            if observation.cause().is_some() {
                // A machine that cannot continue explains more than what the check missed.
                running.cluster.lost_machines().into_iter().for_each(|lost| observation.problem_once(lost));
            }
            if let Some(cause) = observation.cause() {
                seen.push(SeenFailure::Check { check: spec.id.clone(), cause });
            }
            let failed = observation.cause().is_some();
            recorder.record(finished(spec, observation));
            // Whether an expected failure occurred is known only at the end.
            if failed && self.scenario.expect == Expectation::Passes {
                self.pause_if_unexpected(session, running, &seen, &format!("check {}", spec.id)).await;
            }
        }
        seen
    }

    fn skip_checks(&self, recorder: &Recorder, cause: &str) {
        self.skip_from(0, recorder, cause);
    }

    fn skip_from(&self, first: usize, recorder: &Recorder, cause: &str) {
        for spec in self.scenario.checks.iter().skip(first) {
            recorder.record(EventKind::CheckFinished {
                check: spec.id.clone(),
                title: spec.title(),
                outcome: Outcome::NotRun { cause: cause.to_owned() },
                evidence: Vec::new(),
            });
        }
    }
}

fn finished(spec: &CheckSpec, observation: Observation) -> EventKind {
    EventKind::CheckFinished {
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
    SeenFailure::Step { step: failure.step, node, turned_away: failure.turned_away, cause: failure.reason() }
}

fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().replace('\n', " ")
}
