//! The time measurements of a run that have a stage budget. Computed from events alone, during and
//! after the run.

use std::{collections::BTreeMap, time::Duration};

use lab_model::{
    events::{Event, EventKind, Outcome, Step, Subject},
    node::NodeName,
};

/// The figures: their names, what they measure, and their budgets. Source: the promise of the images'
/// users.
pub(super) const BOOT: Promise = Promise {
    name: "boot",
    measures: "from power-on to maintenance mode, the slowest node",
    budget: Duration::from_secs(5 * 60),
};
pub(super) const BOOTSTRAP: Promise = Promise {
    name: "bootstrap",
    measures: "from the first power-on to an API server that is ready, the slowest cluster",
    budget: Duration::from_secs(8 * 60),
};
pub(super) const WHOLE: Promise = Promise {
    name: "whole flow",
    measures: "from the start of the run to its verdict",
    budget: Duration::from_secs(25 * 60),
};

/// A figure and its budget.
pub(super) struct Promise {
    pub(super) name: &'static str,
    pub(super) measures: &'static str,
    pub(super) budget: Duration,
}

/// A figure of a running or finished run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lapse {
    /// The start event has not occurred.
    NotYet,
    /// The elapsed time of a running measurement.
    Running(Duration),
    /// The total time; for several measurements, the longest so far.
    Done(Duration),
}

/// The state from which the figures are computed.
#[derive(Default)]
pub(super) struct Laps {
    pub(super) run: Lap,
    scenario: String,
    /// By node and scenario.
    pub(super) boots: Vec<(String, Lap)>,
    /// The running boots, as indices of `boots`.
    booting: BTreeMap<NodeName, usize>,
    /// By scenario.
    pub(super) bootstraps: Vec<(String, Lap)>,
}

/// The time from one event to another; the end is unknown until the second event occurs.
#[derive(Clone, Copy, Default)]
pub(super) struct Lap {
    pub(super) began: Duration,
    pub(super) ended: Option<Duration>,
}

impl Lap {
    pub(super) fn time(self) -> Option<Duration> {
        self.ended.map(|ended| ended.saturating_sub(self.began))
    }
}

impl Laps {
    /// The figures at time `now`: name, budget and time.
    pub(super) fn lapses(&self, now: Duration) -> [(&'static str, Duration, Lapse); 3] {
        let of = |laps: &[(String, Lap)]| {
            let open = laps.iter().filter(|(_, lap)| lap.ended.is_none()).map(|(_, lap)| lap.began).min();
            let longest = laps.iter().filter_map(|(_, lap)| lap.time()).max();
            match (open, longest) {
                (Some(began), _) => Lapse::Running(now.saturating_sub(began)),
                (None, Some(time)) => Lapse::Done(time),
                (None, None) => Lapse::NotYet,
            }
        };
        let whole = match self.run.time() {
            Some(time) => Lapse::Done(time),
            None => Lapse::Running(now.saturating_sub(self.run.began)),
        };
        [(BOOT, of(&self.boots)), (BOOTSTRAP, of(&self.bootstraps)), (WHOLE, whole)]
            .map(|(promise, lapse)| (promise.name, promise.budget, lapse))
    }

    pub(super) fn add(&mut self, event: &Event) {
        let at = event.at;
        match &event.kind {
            EventKind::RunStarted { .. } => self.run.began = at,
            EventKind::RunFinished { .. } => self.run.ended = Some(at),
            EventKind::ScenarioStarted { scenario, .. } => {
                self.scenario.clone_from(scenario);
                self.booting.clear();
            }
            EventKind::StepStarted { subject: Subject::Node(node), step: Step::Boot } => {
                self.powered_on(node, at);
            }
            EventKind::StepFinished {
                subject: Subject::Node(node),
                step: Step::Maintenance,
                outcome: Outcome::Passed,
            } => {
                if let Some(lap) = self.booting.remove(node).and_then(|position| self.boots.get_mut(position))
                {
                    lap.1.ended = Some(at);
                }
            }
            EventKind::StepFinished { step: Step::KubernetesApi, outcome: Outcome::Passed, .. } => {
                let open = self.bootstraps.last_mut().filter(|(name, _)| *name == self.scenario);
                if let Some((_, lap)) = open {
                    lap.ended.get_or_insert(at);
                }
            }
            _ => {}
        }
    }

    /// Only the first power-on in a scenario counts: a node that is power-cycled later already has
    /// its config.
    fn powered_on(&mut self, node: &NodeName, at: Duration) {
        let name = format!("{node} of {}", self.scenario);
        if self.boots.iter().any(|(known, _)| *known == name) {
            return;
        }
        self.booting.insert(node.clone(), self.boots.len());
        self.boots.push((name, Lap { began: at, ended: None }));
        if self.bootstraps.last().is_none_or(|(known, _)| *known != self.scenario) {
            self.bootstraps.push((self.scenario.clone(), Lap { began: at, ended: None }));
        }
    }
}

/// The longest lap, or the first lap without an end.
pub(super) fn slowest<'a>(
    mut laps: impl Iterator<Item = (&'a str, &'a Lap)>,
) -> Result<(&'a str, &'a Lap), String> {
    let mut slowest: Option<(&str, &Lap)> = None;
    laps.try_for_each(|(of, lap)| match lap.time() {
        None => Err(format!("{of} did not reach it")),
        Some(_) => {
            if slowest.is_none_or(|(_, known)| lap.time() > known.time()) {
                slowest = Some((of, lap));
            }
            Ok(())
        }
    })?;
    slowest.ok_or_else(|| "nothing was powered on".to_owned())
}
