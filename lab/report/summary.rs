//! The summary of a run, computed from its events alone. Its text is in `results.rs`.

use std::{collections::BTreeMap, time::Duration};

use lab_model::{
    events::{Event, EventKind, Layer, LayerState, Outcome, PlannedImage, Step, Subject},
    node::{Kind, NodeName, Role},
};
use serde::Serialize;

use super::signatures::KnownFailure;

/// The results of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub run: String,
    /// The title of the run.
    pub title: String,
    /// Start time.
    pub started: Option<jiff::Timestamp>,
    /// The accelerator of the guests, e.g. `tcg`.
    pub accelerator: String,
    /// The version of QEMU.
    pub qemu: String,
    /// The factor by which the host was slower than the reference host.
    pub speed_factor: f64,
    /// The scenarios, in order.
    pub scenarios: Vec<ScenarioSummary>,
    /// The known failures in the run.
    pub known: Vec<KnownFailure>,
    /// Further notes on the run, one sentence each.
    pub notes: Vec<String>,
    /// The overall verdict, once it exists.
    pub outcome: Option<Outcome>,
    /// Seconds from the first to the last event.
    pub seconds: f64,
}

/// The results of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ScenarioSummary {
    pub name: String,
    /// The question that the scenario answers.
    pub question: String,
    /// The saved cluster from which the scenario started, or the reason for a cold start.
    pub start: Option<String>,
    pub nodes: Vec<NodeSummary>,
    pub checks: Vec<CheckResult>,
    /// The verdict, once it exists.
    pub outcome: Option<Outcome>,
    /// Seconds from the start of the scenario to its last event.
    pub seconds: f64,
    #[serde(skip)]
    pub(super) began: Duration,
}

/// The results of a node's formation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSummary {
    pub node: NodeName,
    /// The Kubernetes components that run on the node.
    pub kind: Kind,
    /// The role of the image that the node boots.
    pub role: Role,
    /// The image, if the recording contains it.
    pub image: Option<PlannedImage>,
    /// Seconds of each finished step when it finished for the first time: a reboot repeats some
    /// steps.
    pub steps: BTreeMap<Step, f64>,
    /// Seconds from the start of the VM until Kubernetes reported the node as Ready for the first
    /// time.
    pub node_ready_after: Option<f64>,
    /// Seconds from the start of the VM until all layers were green for the first time.
    pub ready_after: Option<f64>,
    #[serde(skip)]
    started: BTreeMap<Step, Duration>,
    #[serde(skip)]
    powered_on: Option<Duration>,
    #[serde(skip)]
    green: BTreeMap<Layer, bool>,
}

/// The results of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResult {
    /// The check ID.
    pub check: String,
    /// GIVEN … WHEN … THEN.
    pub title: String,
    pub outcome: Outcome,
    pub evidence: Vec<String>,
    /// Seconds from start to end.
    pub seconds: f64,
    #[serde(skip)]
    started: Duration,
}

impl Summary {
    /// The summary of a complete recording.
    pub fn of(events: &[Event]) -> Self {
        let mut summary = Self::default();
        for event in events {
            summary.add(event);
        }
        summary
    }

    /// Adds the next event.
    pub fn add(&mut self, event: &Event) {
        self.seconds = event.at.as_secs_f64();
        match &event.kind {
            EventKind::RunStarted { run, title, wall, .. } => {
                self.run.clone_from(run);
                self.title.clone_from(title);
                self.started = Some(*wall);
            }
            EventKind::HostMeasured { accelerator, qemu, speed_factor } => {
                self.accelerator.clone_from(accelerator);
                self.qemu.clone_from(qemu);
                self.speed_factor = *speed_factor;
            }
            EventKind::ScenarioStarted { scenario, question } => self.scenarios.push(ScenarioSummary {
                name: scenario.clone(),
                question: question.clone(),
                began: event.at,
                ..Default::default()
            }),
            EventKind::RunFinished { outcome } => self.outcome = Some(outcome.clone()),
            other => {
                if self.scenarios.is_empty() && other.belongs_to_a_scenario() {
                    self.scenarios.push(ScenarioSummary { began: event.at, ..Default::default() });
                }
                if let Some(scenario) = self.scenarios.last_mut() {
                    scenario.seconds = rounded(event.at.saturating_sub(scenario.began));
                    scenario.add(event.at, other);
                }
            }
        }
    }

    /// The numbers of passed, failed and not executed checks.
    pub fn checks(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for check in self.scenarios.iter().flat_map(|scenario| &scenario.checks) {
            counts[match check.outcome {
                Outcome::Passed => 0,
                Outcome::Failed { .. } => 1,
                Outcome::NotRun { .. } => 2,
            }] += 1;
        }
        counts
    }

    /// Whether there is a green verdict. A run that broke off has not passed.
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::passed)
    }
}

impl ScenarioSummary {
    fn add(&mut self, at: Duration, kind: &EventKind) {
        match kind {
            EventKind::ClusterStarts { warm, reason } => {
                self.start = Some(format!("{}: {reason}", if *warm { "warm" } else { "cold" }));
            }
            EventKind::NodePlanned { node, kind, role, image, .. } => self.nodes.push(NodeSummary {
                node: node.clone(),
                kind: *kind,
                role: role.clone(),
                image: image.clone(),
                steps: BTreeMap::new(),
                node_ready_after: None,
                ready_after: None,
                started: BTreeMap::new(),
                powered_on: None,
                green: BTreeMap::new(),
            }),
            EventKind::StepStarted { subject: Subject::Node(node), step } => {
                if let Some(node) = self.node(node) {
                    node.started.insert(*step, at);
                    if [Step::Boot, Step::Restore].contains(step) {
                        node.powered_on.get_or_insert(at);
                    }
                }
            }
            EventKind::StepFinished { subject: Subject::Node(node), step, .. } => {
                if let Some(node) = self.node(node)
                    && let Some(started) = node.started.remove(step)
                {
                    node.steps.entry(*step).or_insert(rounded(at.saturating_sub(started)));
                }
            }
            EventKind::LayerChanged { node, layer, state, .. } => {
                if let Some(node) = self.node(node) {
                    node.green.insert(*layer, *state == LayerState::Green);
                    let Some(start) = node.powered_on else { return };
                    let after = rounded(at.saturating_sub(start));
                    if node.green.get(&Layer::KubernetesNode) == Some(&true) {
                        node.node_ready_after.get_or_insert(after);
                    }
                    if Layer::ALL.iter().all(|layer| node.green.get(layer) == Some(&true)) {
                        node.ready_after.get_or_insert(after);
                    }
                }
            }
            EventKind::CheckStarted { check, title } => self.checks.push(CheckResult {
                check: check.clone(),
                title: title.clone(),
                outcome: Outcome::NotRun { cause: "it was started and did not end".into() },
                evidence: Vec::new(),
                seconds: 0.0,
                started: at,
            }),
            EventKind::CheckFinished { check, title, outcome, evidence } => {
                let known = self.checks.iter_mut().rev().find(|known| known.check == *check);
                let (outcome, evidence) = (outcome.clone(), evidence.clone());
                match known {
                    Some(known) => {
                        known.seconds = rounded(at.saturating_sub(known.started));
                        known.outcome = outcome;
                        known.evidence = evidence;
                    }
                    None => self.checks.push(CheckResult {
                        check: check.clone(),
                        title: title.clone(),
                        outcome,
                        evidence,
                        seconds: 0.0,
                        started: at,
                    }),
                }
            }
            EventKind::ScenarioFinished { outcome, .. } => self.outcome = Some(outcome.clone()),
            _ => {}
        }
    }

    fn node(&mut self, name: &NodeName) -> Option<&mut NodeSummary> {
        self.nodes.iter_mut().find(|node| node.node == *name)
    }

    /// Seconds from the first power-on until the last node was green on all layers; `None` unless all
    /// nodes became green.
    pub fn all_ready_after(&self) -> Option<f64> {
        self.last(|node| node.ready_after)
    }

    /// Seconds from the first power-on until Kubernetes had reported every node as Ready; `None`
    /// unless all nodes became Ready.
    pub fn all_nodes_ready_after(&self) -> Option<f64> {
        self.last(|node| node.node_ready_after)
    }

    fn last(&self, after: impl Fn(&NodeSummary) -> Option<f64>) -> Option<f64> {
        let first = self.nodes.iter().filter_map(|node| node.powered_on).min()?;
        let ends: Option<Vec<_>> = self
            .nodes
            .iter()
            .map(|node| Some(node.powered_on?.saturating_sub(first).as_secs_f64() + after(node)?))
            .collect();
        ends?.into_iter().reduce(f64::max)
    }

    /// Seconds of each step on the slowest node.
    pub fn longest_steps(&self) -> BTreeMap<Step, f64> {
        let mut longest = BTreeMap::new();
        for (step, seconds) in self.nodes.iter().flat_map(|node| &node.steps) {
            let known = longest.entry(*step).or_insert(*seconds);
            *known = known.max(*seconds);
        }
        longest
    }

    /// Whether the scenario passed.
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::passed)
    }
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}
