//! The summary of a run, made from its events alone.

use std::{collections::BTreeMap, fmt, fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    events::{Event, Happening, Layer, LayerState, Outcome, Step, Subject},
    node::{Kind, NodeName, Role},
};

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The run's name.
    pub run: String,
    /// What was run.
    pub title: String,
    /// How guests ran, e.g. `tcg`.
    pub accelerator: String,
    /// QEMU's version.
    pub qemu: String,
    /// How many times slower than the reference host.
    pub speed_factor: f64,
    /// The scenarios, in order.
    pub scenarios: Vec<ScenarioSummary>,
    /// The verdict over all, once there is one.
    pub outcome: Option<Outcome>,
    /// Seconds from the first to the last event.
    pub seconds: f64,
}

/// What came of a scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ScenarioSummary {
    /// Its name.
    pub name: String,
    /// The question it answers.
    pub question: String,
    /// Whether its cluster was a saved one, and which, or why none.
    pub start: Option<String>,
    /// Its nodes.
    pub nodes: Vec<NodeSummary>,
    /// Its checks.
    pub checks: Vec<CheckResult>,
    /// The verdict, once there is one.
    pub outcome: Option<Outcome>,
}

/// What came of a node's formation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSummary {
    /// Its name.
    pub node: NodeName,
    /// What Kubernetes runs on it.
    pub kind: Kind,
    /// Which image it boots.
    pub role: Role,
    /// Seconds that each finished step took.
    pub steps: BTreeMap<Step, f64>,
    /// Seconds from the start of its VM until Kubernetes called it Ready for the first time.
    pub node_ready_after: Option<f64>,
    /// Seconds from the start of its VM until all its layers were green for the first time.
    pub ready_after: Option<f64>,
    #[serde(skip)]
    started: BTreeMap<Step, Duration>,
    #[serde(skip)]
    powered_on: Option<Duration>,
    #[serde(skip)]
    green: BTreeMap<Layer, bool>,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResult {
    /// Its identifier.
    pub check: String,
    /// GIVEN … WHEN … THEN.
    pub title: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was observed.
    pub evidence: Vec<String>,
    /// Seconds from its start to its end.
    pub seconds: f64,
    #[serde(skip)]
    started: Duration,
}

impl Summary {
    /// The summary of a whole recording.
    pub fn of(events: &[Event]) -> Self {
        let mut summary = Self::default();
        for event in events {
            summary.add(event);
        }
        summary
    }

    /// Takes the next event in.
    pub fn add(&mut self, event: &Event) {
        self.seconds = event.at.as_secs_f64();
        match &event.happening {
            Happening::RunStarted { run, title, .. } => {
                self.run.clone_from(run);
                self.title.clone_from(title);
            }
            Happening::HostMeasured { accelerator, qemu, speed_factor } => {
                self.accelerator.clone_from(accelerator);
                self.qemu.clone_from(qemu);
                self.speed_factor = *speed_factor;
            }
            Happening::ScenarioStarted { scenario, question } => self.scenarios.push(ScenarioSummary {
                name: scenario.clone(),
                question: question.clone(),
                ..Default::default()
            }),
            Happening::RunFinished { outcome } => self.outcome = Some(outcome.clone()),
            other => self.current().add(event.at, other),
        }
    }

    /// The scenario that is going on; events before the first belong to a nameless one.
    fn current(&mut self) -> &mut ScenarioSummary {
        if self.scenarios.is_empty() {
            self.scenarios.push(ScenarioSummary::default());
        }
        let last = self.scenarios.len() - 1;
        &mut self.scenarios[last]
    }
}

impl ScenarioSummary {
    fn add(&mut self, at: Duration, happening: &Happening) {
        match happening {
            Happening::ClusterStarts { warm, reason } => {
                self.start = Some(format!("{}: {reason}", if *warm { "warm" } else { "cold" }));
            }
            Happening::NodePlanned { node, kind, role, .. } => self.nodes.push(NodeSummary {
                node: node.clone(),
                kind: *kind,
                role: role.clone(),
                steps: BTreeMap::new(),
                node_ready_after: None,
                ready_after: None,
                started: BTreeMap::new(),
                powered_on: None,
                green: BTreeMap::new(),
            }),
            Happening::StepStarted { subject: Subject::Node(node), step } => {
                if let Some(node) = self.node(node) {
                    node.started.insert(*step, at);
                    if [Step::Boot, Step::Restore].contains(step) {
                        node.powered_on.get_or_insert(at);
                    }
                }
            }
            Happening::StepFinished { subject: Subject::Node(node), step, .. } => {
                if let Some(node) = self.node(node)
                    && let Some(started) = node.started.remove(step)
                {
                    node.steps.insert(*step, rounded(at.saturating_sub(started)));
                }
            }
            Happening::LayerChanged { node, layer, state, .. } => {
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
            Happening::CheckStarted { check, title } => self.checks.push(CheckResult {
                check: check.clone(),
                title: title.clone(),
                outcome: Outcome::NotRun { cause: "it was started and did not end".into() },
                evidence: Vec::new(),
                seconds: 0.0,
                started: at,
            }),
            Happening::CheckFinished { check, title, outcome, evidence } => {
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
            Happening::ScenarioFinished { outcome, .. } => self.outcome = Some(outcome.clone()),
            _ => {}
        }
    }

    fn node(&mut self, name: &NodeName) -> Option<&mut NodeSummary> {
        self.nodes.iter_mut().find(|node| node.node == *name)
    }

    /// Seconds from the first power-on until the last node was green on all layers; `None` unless
    /// all were.
    pub fn all_ready_after(&self) -> Option<f64> {
        self.last(|node| node.ready_after)
    }

    /// Seconds from the first power-on until Kubernetes had called every node Ready; `None` unless
    /// all were.
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
}

fn rounded(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100.0).round() / 100.0
}

/// The steps shown per node, in order.
const COLUMNS: [Step; 5] = [Step::Boot, Step::Maintenance, Step::ApplyConfig, Step::SecureApi, Step::Ready];

impl fmt::Display for Summary {
    /// The `TEST RESULTS` block, fit for pasting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "TEST RESULTS  {}", self.title)?;
        if !self.accelerator.is_empty() {
            writeln!(f, "QEMU {}, {}, speed factor {:.2}", self.qemu, self.accelerator, self.speed_factor)?;
        }
        for scenario in &self.scenarios {
            write!(f, "{scenario}")?;
        }
        match &self.outcome {
            Some(outcome) => writeln!(f, "\n{} in {:.0} s", verdict(outcome), self.seconds),
            None => writeln!(f, "\n❌ NO VERDICT: the run did not end by itself"),
        }
    }
}

fn verdict(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "✅ PASSED".into(),
        Outcome::Failed { cause } => format!("❌ FAILED: {cause}"),
        Outcome::NotRun { cause } => format!("❌ NOT RUN: {cause}"),
    }
}

impl fmt::Display for ScenarioSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            writeln!(f, "\n{}: {}", self.name, self.question)?;
        }
        if let Some(start) = &self.start {
            writeln!(f, "\n  started {start}")?;
        }
        if !self.nodes.is_empty() {
            writeln!(f, "\n  {:<14}{:<15}{:<10}{}", "node", "kind", "role", header())?;
            for node in &self.nodes {
                writeln!(f, "  {node}")?;
            }
            if let Some(seconds) = self.all_ready_after() {
                writeln!(f, "  all nodes green {seconds:.1} s after power-on")?;
            }
            writeln!(f)?;
        }
        for check in &self.checks {
            write!(f, "{check}")?;
        }
        match &self.outcome {
            Some(outcome) if !self.name.is_empty() => writeln!(f, "{}: {}", self.name, verdict(outcome)),
            _ => Ok(()),
        }
    }
}

fn header() -> String {
    let mut text = COLUMNS.iter().fold(String::new(), |mut text, step| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{:>18}", step.label());
        text
    });
    text.push_str("   green after");
    text
}

impl fmt::Display for NodeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14}{:<15}{:<10}", self.node, self.kind, self.role)?;
        for step in COLUMNS {
            match self.steps.get(&step) {
                Some(seconds) => write!(f, "{:>16.1} s", seconds)?,
                None => write!(f, "{:>18}", "-")?,
            }
        }
        match self.ready_after {
            Some(seconds) => write!(f, "{seconds:>12.1} s"),
            None => write!(f, "{:>14}", "never"),
        }
    }
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.outcome.passed() { "✅" } else { "❌" };
        writeln!(f, "{mark} {}: {} ({:.1} s)", self.check, self.title, self.seconds)?;
        match &self.outcome {
            Outcome::Passed => {}
            Outcome::Failed { cause } => writeln!(f, "   cause: {cause}")?,
            Outcome::NotRun { cause } => writeln!(f, "   not run: {cause}")?,
        }
        for line in &self.evidence {
            writeln!(f, "   - {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Vec<Event> {
        let node = NodeName::new("cp-1").expect("name");
        let subject = Subject::Node(node.clone());
        let mut happenings = vec![
            Happening::RunStarted {
                run: "r".into(),
                title: "compute-only-cluster".into(),
                wall: jiff::Timestamp::UNIX_EPOCH,
                format: crate::events::FORMAT,
                shard: None,
            },
            Happening::HostMeasured { accelerator: "tcg".into(), qemu: "7.2.0".into(), speed_factor: 1.25 },
            Happening::ScenarioStarted {
                scenario: "compute-only-cluster".into(),
                question: "Do they form?".into(),
            },
            Happening::NodePlanned {
                node: node.clone(),
                kind: Kind::ControlPlane,
                role: Role::new("compute").expect("role"),
                address: [10, 5, 0, 2].into(),
            },
        ];
        for step in COLUMNS {
            happenings.push(Happening::StepStarted { subject: subject.clone(), step });
            happenings.push(Happening::StepFinished {
                subject: subject.clone(),
                step,
                outcome: Outcome::Passed,
            });
        }
        for layer in Layer::ALL {
            happenings.push(Happening::LayerChanged {
                node: node.clone(),
                layer,
                state: LayerState::Green,
                detail: String::new(),
            });
        }
        let check = |check: &str, outcome| Happening::CheckFinished {
            check: check.into(),
            title: "GIVEN a WHEN b THEN c".into(),
            outcome,
            evidence: vec!["one fact".into()],
        };
        happenings.push(check("layers-green", Outcome::Passed));
        let failed = Outcome::Failed { cause: "a pod did not answer".into() };
        happenings.push(check("pod-network", failed.clone()));
        happenings.push(Happening::ScenarioFinished {
            scenario: "compute-only-cluster".into(),
            outcome: failed.clone(),
        });
        happenings.push(Happening::RunFinished { outcome: failed });
        happenings
            .into_iter()
            .enumerate()
            .map(|(seq, happening)| Event { seq: seq as u64, at: Duration::from_secs(seq as u64), happening })
            .collect()
    }

    #[test]
    fn a_run_reads_as_test_results() {
        insta::assert_snapshot!(Summary::of(&events()).to_string());
    }

    #[test]
    fn a_run_that_stopped_in_the_middle_has_no_verdict() {
        let events = events();
        let text = Summary::of(&events[..6]).to_string();
        assert!(text.contains("NO VERDICT"), "{text}");
    }
}
