//! The laps of a run that a stage has promises for, while it goes on and afterwards. Made from its events alone.

use std::{collections::BTreeMap, time::Duration};

use lab_model::{
    events::{Event, EventKind, Outcome, Step, Subject},
    node::NodeName,
};

/// What the figures are called, what they measure, and the promise that the images' users make.
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

/// A figure and what it must not exceed.
pub(super) struct Promise {
    pub(super) name: &'static str,
    pub(super) measures: &'static str,
    pub(super) budget: Duration,
}

/// A figure of a run that goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lapse {
    /// What it is counted from has not come.
    NotYet,
    /// So much until now.
    Running(Duration),
    /// So much in all; of several, the longest until now.
    Done(Duration),
}

/// What the figures are made of.
#[derive(Default)]
pub(super) struct Laps {
    pub(super) run: Lap,
    scenario: String,
    /// By node and scenario.
    pub(super) boots: Vec<(String, Lap)>,
    /// The boots that go on, as positions in `boots`.
    booting: BTreeMap<NodeName, usize>,
    /// By scenario.
    pub(super) bootstraps: Vec<(String, Lap)>,
}

/// From a moment to another, once that came.
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
    /// The figures as they stand at `now`: name, budget and time.
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

    /// Only the first time in a scenario: a node that is power-cycled later has its config already.
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

/// The lap that took longest, or the first that did not come to its end.
pub(super) fn slowest<'a>(
    mut laps: impl Iterator<Item = (&'a str, &'a Lap)>,
) -> Result<(&'a str, &'a Lap), String> {
    let mut slowest: Option<(&str, &Lap)> = None;
    laps.try_for_each(|(of, lap)| match lap.time() {
        None => Err(format!("{of} did not come to it")),
        Some(_) => {
            if slowest.is_none_or(|(_, known)| lap.time() > known.time()) {
                slowest = Some((of, lap));
            }
            Ok(())
        }
    })?;
    slowest.ok_or_else(|| "nothing was powered on".to_owned())
}
