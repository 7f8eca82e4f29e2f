//! The state of the screen, computed from events.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use lab_model::{
    events::{Event, EventKind, Layer, LayerState, Outcome, Planned, Step, Subject},
    node::{Kind, NodeName, Role},
};

use super::super::{laps::Laps, plain};

/// The number of kept lines of a console and of the log: more than any screen shows.
const LINES: usize = 120;

/// The current state of a run.
#[derive(Default)]
pub(super) struct ScreenState {
    /// Time since the run began.
    pub(super) now: Duration,
    pub(super) run: String,
    /// The accelerator and the speed of the host.
    pub(super) host: String,
    pub(super) scenarios: Vec<ScenarioRow>,
    /// The nodes of the current scenario.
    pub(super) nodes: Vec<Pane>,
    /// The current step of the cluster as a whole.
    pub(super) cluster_step: Option<StepRow>,
    pub(super) log: VecDeque<(Duration, String)>,
    pub(super) laps: Laps,
    pub(super) ended: Option<Outcome>,
}

/// A scenario and its progress.
pub(super) struct ScenarioRow {
    pub(super) name: String,
    pub(super) began: Option<Duration>,
    pub(super) ended: Option<(Duration, Outcome)>,
    /// Whether it started from a saved cluster.
    pub(super) warm: Option<bool>,
    pub(super) checks: Vec<CheckRow>,
}

/// A check and its progress.
pub(super) struct CheckRow {
    pub(super) id: String,
    pub(super) began: Option<Duration>,
    pub(super) ended: Option<(Duration, Outcome)>,
}

pub(super) struct Pane {
    pub(super) name: NodeName,
    pub(super) kind: Kind,
    pub(super) role: Role,
    pub(super) address: std::net::Ipv4Addr,
    pub(super) step: Option<StepRow>,
    pub(super) layers: BTreeMap<Layer, (LayerState, String)>,
    pub(super) cost: Option<(f64, u64)>,
    pub(super) console: VecDeque<String>,
    /// The reason why QEMU ended unexpectedly.
    pub(super) lost: Option<String>,
}

/// A running or finished step.
#[derive(Clone)]
pub(super) struct StepRow {
    pub(super) step: Step,
    pub(super) began: Duration,
    pub(super) ended: Option<(Duration, Outcome)>,
}

impl ScreenState {
    pub(super) fn add(&mut self, event: &Event) {
        self.now = self.now.max(event.at);
        self.laps.add(event);
        let at = event.at;
        match &event.kind {
            EventKind::RunStarted { run, .. } => self.run.clone_from(run),
            EventKind::Agenda { scenarios } => {
                let row = |planned: &Planned| ScenarioRow::new(&planned.scenario, &planned.checks);
                self.scenarios = scenarios.iter().map(row).collect();
            }
            EventKind::HostMeasured { accelerator, qemu, speed_factor } => {
                let accelerator = accelerator.split(',').next().unwrap_or_default();
                self.host = format!("QEMU {qemu}, {accelerator}, speed factor {speed_factor:.2}");
            }
            EventKind::ScenarioStarted { scenario, .. } => {
                self.nodes.clear();
                self.cluster_step = None;
                self.scenario(scenario).began = Some(at);
            }
            EventKind::ClusterStarts { warm, .. } => {
                if let Some(row) = self.present() {
                    row.warm = Some(*warm);
                }
                self.note(event);
            }
            EventKind::NodePlanned { node, kind, role, address, .. } => self.nodes.push(Pane {
                name: node.clone(),
                kind: *kind,
                role: role.clone(),
                address: *address,
                step: None,
                layers: BTreeMap::new(),
                cost: None,
                console: VecDeque::new(),
                lost: None,
            }),
            EventKind::StepStarted { subject, step } => {
                if let Some(row) = self.step_of(subject) {
                    *row = Some(StepRow { step: *step, began: at, ended: None });
                }
            }
            EventKind::StepFinished { subject, step, outcome } => {
                if let Some(Some(row)) = self.step_of(subject)
                    && row.step == *step
                {
                    row.ended = Some((at, outcome.clone()));
                }
                if !outcome.passed() {
                    self.note(event);
                }
            }
            EventKind::LayerChanged { node, layer, state, detail } => {
                if let Some(pane) = self.pane(node) {
                    pane.layers.insert(*layer, (*state, detail.clone()));
                }
            }
            EventKind::Console { node, line } => {
                if let Some(pane) = self.pane(node) {
                    keep(&mut pane.console, line.clone());
                }
            }
            EventKind::ResourcesSampled { node, cpu_seconds, rss_bytes } => {
                if let Some(pane) = self.pane(node) {
                    pane.cost = Some((*cpu_seconds, *rss_bytes));
                }
            }
            EventKind::MachineExited { node, status, expected } => {
                if let Some(pane) = self.pane(node).filter(|_| !expected) {
                    pane.lost = Some(status.clone());
                }
                self.note(event);
            }
            EventKind::CheckStarted { check, .. } => {
                if let Some(row) = self.check(check) {
                    row.began = Some(at);
                }
            }
            EventKind::CheckFinished { check, outcome, .. } => {
                if let Some(row) = self.check(check) {
                    row.ended = Some((at, outcome.clone()));
                }
                if !outcome.passed() {
                    self.note(event);
                }
            }
            EventKind::ScenarioFinished { scenario, outcome } => {
                self.scenario(scenario).ended = Some((at, outcome.clone()));
                self.note(event);
            }
            EventKind::RunFinished { outcome } => self.ended = Some(outcome.clone()),
            EventKind::Note { .. } => self.note(event),
            EventKind::HostSeen { .. }
            | EventKind::NetworkPlanned { .. }
            | EventKind::KubernetesEvent { .. }
            | EventKind::NetworkAsked { .. }
            | EventKind::RouteFollowed { .. } => {}
        }
    }

    /// The running scenario, or else the last scenario.
    pub(super) fn shown(&self) -> Option<&ScenarioRow> {
        self.scenarios.iter().rfind(|row| row.began.is_some())
    }

    /// The next action after the current one.
    pub(super) fn next(&self) -> String {
        if self.ended.is_some() {
            return "the reports".to_owned();
        }
        let present = self.shown().filter(|row| row.ended.is_none());
        let next_scenario = || self.scenarios.iter().find(|row| row.began.is_none());
        let Some(present) = present else {
            return next_scenario().map_or("the verdict".to_owned(), |row| format!("scenario {}", row.name));
        };
        match self.forms_with(present.warm == Some(true)) {
            Some(step) => format!("{} ({})", step.label(), present.name),
            None => match (present.checks.iter().find(|check| check.began.is_none()), next_scenario()) {
                (Some(check), _) => format!("check {}", check.id),
                (None, Some(row)) => format!("scenario {}", row.name),
                (None, None) => "the verdict".to_owned(),
            },
        }
    }

    /// The step after the earliest running step, in the order of the cluster start; `None` if that is
    /// the last step, or if no cluster starts.
    fn forms_with(&self, warm: bool) -> Option<Step> {
        let place = |step: Step| Step::ALL.iter().position(|known| *known == step);
        let rows = self.nodes.iter().filter_map(|pane| pane.step.as_ref()).chain(&self.cluster_step);
        let earliest = rows.filter(|row| row.ended.is_none()).filter_map(|row| place(row.step)).min()?;
        let ready = place(Step::Ready)?;
        let taken = |step: &Step| match step {
            Step::Restore => warm,
            Step::Boot | Step::Maintenance | Step::ApplyConfig | Step::Bootstrap => !warm,
            // Few clusters have a network plugin of their own.
            Step::NetworkPlugin => false,
            _ => true,
        };
        (earliest + 1..=ready).map(|next| Step::ALL[next]).find(taken)
    }

    fn present(&mut self) -> Option<&mut ScenarioRow> {
        self.scenarios.iter_mut().rfind(|row| row.began.is_some())
    }

    fn scenario(&mut self, name: &str) -> &mut ScenarioRow {
        let known = self.scenarios.iter().position(|row| row.name == name);
        let at = known.unwrap_or_else(|| {
            self.scenarios.push(ScenarioRow::new(name, &[]));
            self.scenarios.len() - 1
        });
        &mut self.scenarios[at]
    }

    fn check(&mut self, id: &str) -> Option<&mut CheckRow> {
        let row = self.present()?;
        let known = row.checks.iter().position(|check| check.id == id);
        let at = known.unwrap_or_else(|| {
            row.checks.push(CheckRow::new(id));
            row.checks.len() - 1
        });
        row.checks.get_mut(at)
    }

    fn pane(&mut self, node: &NodeName) -> Option<&mut Pane> {
        self.nodes.iter_mut().find(|pane| pane.name == *node)
    }

    fn step_of(&mut self, subject: &Subject) -> Option<&mut Option<StepRow>> {
        match subject {
            Subject::Cluster => Some(&mut self.cluster_step),
            Subject::Node(node) => self.pane(node).map(|pane| &mut pane.step),
        }
    }

    fn note(&mut self, event: &Event) {
        if let Some(text) = plain::text(event) {
            keep(&mut self.log, (event.at, text));
        }
    }
}

impl ScenarioRow {
    /// A scenario that has not started.
    fn new(name: &str, checks: &[String]) -> Self {
        let checks = checks.iter().map(|id| CheckRow::new(id)).collect();
        Self { name: name.to_owned(), began: None, ended: None, warm: None, checks }
    }
}

impl CheckRow {
    /// A check that has not started.
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), began: None, ended: None }
    }
}

/// Adds a line, and removes the oldest line if the limit is exceeded.
fn keep<T>(lines: &mut VecDeque<T>, line: T) {
    if lines.len() == LINES {
        lines.pop_front();
    }
    lines.push_back(line);
}
