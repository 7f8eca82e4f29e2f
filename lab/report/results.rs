//! The summary as the `TEST RESULTS` block, for pasting.

use std::fmt::{self, Write as _};

use lab_model::events::{Outcome, Step};

use super::summary::{CheckResult, NodeSummary, ScenarioSummary, Summary};

/// The steps per node, in display order.
const COLUMNS: [Step; 5] = [Step::Boot, Step::Maintenance, Step::ApplyConfig, Step::SecureApi, Step::Ready];

impl fmt::Display for Summary {
    /// The `TEST RESULTS` block, in a form for pasting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "TEST RESULTS  {}", self.title)?;
        if !self.accelerator.is_empty() {
            writeln!(f, "QEMU {}, {}, speed factor {:.2}", self.qemu, self.accelerator, self.speed_factor)?;
        }
        for scenario in &self.scenarios {
            write!(f, "{scenario}")?;
        }
        writeln!(f)?;
        for known in &self.known {
            writeln!(f, "{known}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let [passed, failed, not_run] = self.checks();
        if passed + failed + not_run > 0 {
            writeln!(f, "checks: {passed} passed, {failed} failed, {not_run} not run")?;
        }
        match &self.outcome {
            Some(outcome) => writeln!(f, "{} in {:.0} s", verdict(outcome), self.seconds),
            None => writeln!(f, "{NO_VERDICT}"),
        }
    }
}

/// The text instead of a verdict for a run that died.
pub(super) const NO_VERDICT: &str = "❌ NO VERDICT: the run did not end by itself";

/// The text of a verdict, the same in every format.
pub(super) fn verdict(outcome: &Outcome) -> String {
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

/// ✅ for passed, ❌ for everything else: a check that did not run is not known to be correct.
pub(super) fn mark(outcome: &Outcome) -> &'static str {
    if outcome.passed() { "✅" } else { "❌" }
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
        writeln!(f, "{} {}: {} ({:.1} s)", mark(&self.outcome), self.check, self.title, self.seconds)?;
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
    use std::time::Duration;

    use super::*;
    use lab_model::{
        events::{Event, EventKind, Layer, LayerState, Subject},
        node::{Kind, NodeName, Role},
    };

    fn events() -> Vec<Event> {
        let node = NodeName::new("cp-1").expect("name");
        let subject = Subject::Node(node.clone());
        let mut kinds = vec![
            EventKind::RunStarted {
                run: "r".into(),
                title: "compute-only-cluster".into(),
                wall: jiff::Timestamp::UNIX_EPOCH,
                format: lab_model::events::FORMAT,
                shard: None,
            },
            EventKind::HostMeasured { accelerator: "tcg".into(), qemu: "7.2.0".into(), speed_factor: 1.25 },
            EventKind::ScenarioStarted {
                scenario: "compute-only-cluster".into(),
                question: "Do they form?".into(),
            },
            EventKind::NodePlanned {
                node: node.clone(),
                kind: Kind::ControlPlane,
                role: Role::new("compute").expect("role"),
                address: [10, 5, 0, 2].into(),
                image: None,
            },
        ];
        for step in COLUMNS {
            kinds.push(EventKind::StepStarted { subject: subject.clone(), step });
            kinds.push(EventKind::StepFinished { subject: subject.clone(), step, outcome: Outcome::Passed });
        }
        for layer in Layer::ALL {
            kinds.push(EventKind::LayerChanged {
                node: node.clone(),
                layer,
                state: LayerState::Green,
                detail: String::new(),
            });
        }
        let check = |check: &str, outcome| EventKind::CheckFinished {
            check: check.into(),
            title: "GIVEN a WHEN b THEN c".into(),
            outcome,
            evidence: vec!["one fact".into()],
        };
        kinds.push(check("layers-green", Outcome::Passed));
        let failed = Outcome::Failed { cause: "a pod did not answer".into() };
        kinds.push(check("pod-network", failed.clone()));
        kinds.push(EventKind::ScenarioFinished {
            scenario: "compute-only-cluster".into(),
            outcome: failed.clone(),
        });
        kinds.push(EventKind::RunFinished { outcome: failed });
        kinds
            .into_iter()
            .enumerate()
            .map(|(seq, kind)| Event { seq: seq as u64, at: Duration::from_secs(seq as u64), kind })
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
