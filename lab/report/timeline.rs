//! The timeline of one scenario as chart data: lanes with bars, marks, layers and samples.

use std::{collections::BTreeMap, net::Ipv4Addr};

use lab_model::{
    events::{ChainLink, Event, EventKind, Layer, LayerState, Outcome, Step, Subject, Target},
    node::{Kind, NodeName, Role},
};

use super::plain;

/// One scenario from its first to its last event. Times are seconds since the start of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Timeline {
    pub(super) begin: f64,
    pub(super) end: f64,
    /// The cluster's lane, then one lane per node in the order of the plan.
    pub(super) lanes: Vec<Lane>,
    pub(super) network: Option<Network>,
    pub(super) asked: Vec<NetworkRequest>,
    pub(super) routes: Vec<Route>,
}

/// The LAN of the nodes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Network {
    pub(super) lan: String,
    pub(super) gateway: Ipv4Addr,
    pub(super) tailnet: Option<String>,
}

/// The events of the cluster as a whole, or of one node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Lane {
    /// `None` for the cluster.
    pub(super) node: Option<Node>,
    pub(super) bars: Vec<Bar>,
    pub(super) marks: Vec<Mark>,
    pub(super) layers: BTreeMap<Layer, Vec<Stretch>>,
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) name: NodeName,
    pub(super) kind: Kind,
    pub(super) role: Role,
    pub(super) address: Ipv4Addr,
}

/// A step or a check.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) from: f64,
    pub(super) to: f64,
    /// Bars in the same row do not overlap.
    pub(super) row: usize,
    pub(super) what: What,
    /// `None` if the step started but did not end.
    pub(super) outcome: Option<Outcome>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Step(Step),
    Check(String),
}

impl What {
    pub(super) fn label(&self) -> &str {
        match self {
            What::Step(step) => step.label(),
            What::Check(check) => check,
        }
    }
}

/// An event without a duration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) kind: MarkKind,
    /// Whether the event needs attention.
    pub(super) bad: bool,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MarkKind {
    Console,
    Note,
    Layer,
    Kubernetes,
    Outcome,
}

impl MarkKind {
    pub(super) const ALL: [MarkKind; 5] =
        [MarkKind::Outcome, MarkKind::Note, MarkKind::Layer, MarkKind::Kubernetes, MarkKind::Console];

    pub(super) fn label(self) -> &'static str {
        match self {
            MarkKind::Console => "console",
            MarkKind::Note => "note",
            MarkKind::Layer => "readiness",
            MarkKind::Kubernetes => "Kubernetes event",
            MarkKind::Outcome => "outcome",
        }
    }
}

/// The state of a readiness layer between two changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stretch {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) state: LayerState,
    pub(super) detail: String,
}

/// The resource usage of a VM at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at: f64,
    pub(super) cpu_seconds: f64,
    pub(super) rss_bytes: u64,
}

/// A request from one pod, and its result.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NetworkRequest {
    pub(super) from: String,
    pub(super) target: Target,
    pub(super) address: String,
    pub(super) outcome: Outcome,
}

/// The state of a route.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Route {
    pub(super) gateway: String,
    pub(super) prefix: String,
    /// Advertised, approved, accepted, reached.
    pub(super) links: [ChainLink; 4],
    pub(super) fastest_ms: Option<u64>,
}

impl Timeline {
    /// One per scenario, as [`super::Summary`] counts them.
    pub(super) fn all(events: &[Event]) -> Vec<Self> {
        let mut timelines: Vec<Self> = Vec::new();
        for event in events {
            let at = event.at.as_secs_f64();
            let begins = matches!(event.kind, EventKind::ScenarioStarted { .. })
                || (timelines.is_empty() && event.kind.belongs_to_a_scenario());
            if begins {
                timelines.push(Self { begin: at, lanes: vec![Lane::default()], ..Self::default() });
            }
            // The end of the run belongs to all scenarios, and extends none of them.
            if let Some(timeline) = timelines.last_mut()
                && !matches!(event.kind, EventKind::RunFinished { .. })
            {
                timeline.end = at;
                timeline.add(at, event);
            }
        }
        timelines.iter_mut().for_each(Self::close);
        timelines
    }

    /// The lanes of the nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Node, &Lane)> {
        self.lanes.iter().filter_map(|lane| Some((lane.node.as_ref()?, lane)))
    }

    fn add(&mut self, at: f64, event: &Event) {
        match &event.kind {
            EventKind::NetworkPlanned { lan, gateway, tailnet } => {
                self.network =
                    Some(Network { lan: lan.clone(), gateway: *gateway, tailnet: tailnet.clone() });
            }
            EventKind::NodePlanned { node, kind, role, address, .. } => {
                let node = Node { name: node.clone(), kind: *kind, role: role.clone(), address: *address };
                self.lanes.push(Lane { node: Some(node), ..Lane::default() });
            }
            EventKind::StepStarted { subject, step } => self.lane(subject).open(at, What::Step(*step)),
            EventKind::StepFinished { subject, step, outcome } => {
                let lane = self.lane(subject);
                lane.end(at, &What::Step(*step), outcome);
                lane.failure(at, step.label(), outcome);
            }
            EventKind::CheckStarted { check, .. } => self.lanes[0].open(at, What::Check(check.clone())),
            EventKind::CheckFinished { check, outcome, .. } => {
                self.lanes[0].end(at, &What::Check(check.clone()), outcome);
                self.lanes[0].failure(at, check, outcome);
            }
            EventKind::LayerChanged { node, layer, state, detail } => {
                let lane = self.lane(&Subject::Node(node.clone()));
                let stretch = Stretch { from: at, to: at, state: *state, detail: detail.clone() };
                lane.layers.entry(*layer).or_default().push(stretch);
                let state = match state {
                    LayerState::Green => "green",
                    LayerState::Waiting => "waiting",
                    LayerState::Unknown => "unknown",
                };
                lane.mark(at, MarkKind::Layer, false, format!("{} {state}: {detail}", layer.label()));
            }
            EventKind::ResourcesSampled { node, cpu_seconds, rss_bytes } => {
                let sample = Sample { at, cpu_seconds: *cpu_seconds, rss_bytes: *rss_bytes };
                self.lane(&Subject::Node(node.clone())).samples.push(sample);
            }
            EventKind::Console { node, line } if !line.trim().is_empty() => {
                self.lane(&Subject::Node(node.clone())).mark(at, MarkKind::Console, false, line.clone());
            }
            EventKind::KubernetesEvent { subject, warning, object, reason, message, count } => {
                let times = if *count > 1 { format!(" (seen {count} times)") } else { String::new() };
                let said = if message.is_empty() { String::new() } else { format!(": {message}") };
                let text = format!("{reason} {object}{said}{times}");
                self.lane(subject).mark(at, MarkKind::Kubernetes, *warning, text);
            }
            EventKind::MachineExited { node, status, expected: false } => {
                let text = format!("QEMU ended: {status}");
                self.lane(&Subject::Node(node.clone())).mark(at, MarkKind::Outcome, true, text);
            }
            EventKind::Note { subject, text } => {
                self.lane(subject).mark(at, MarkKind::Note, false, text.clone());
            }
            EventKind::NetworkAsked { from, target, address, outcome } => self.asked.push(NetworkRequest {
                from: from.clone(),
                target: target.clone(),
                address: address.clone(),
                outcome: outcome.clone(),
            }),
            EventKind::RouteFollowed {
                gateway,
                prefix,
                advertised,
                approved,
                accepted,
                reached,
                fastest_ms,
            } => {
                let links = [advertised, approved, accepted, reached].map(Clone::clone);
                let (gateway, prefix) = (gateway.clone(), prefix.clone());
                self.routes.push(Route { gateway, prefix, links, fastest_ms: *fastest_ms });
            }
            // All other events for people are in the cluster's lane.
            _ => {
                if let Some(text) = plain::text(event) {
                    self.lanes[0].mark(at, MarkKind::Note, false, text);
                }
            }
        }
    }

    fn lane(&mut self, subject: &Subject) -> &mut Lane {
        let index = match subject {
            Subject::Cluster => None,
            Subject::Node(name) => {
                self.lanes.iter().position(|lane| lane.node.as_ref().is_some_and(|node| node.name == *name))
            }
        };
        &mut self.lanes[index.unwrap_or(0)]
    }

    fn close(&mut self) {
        for lane in &mut self.lanes {
            for bar in lane.bars.iter_mut().filter(|bar| bar.outcome.is_none()) {
                bar.to = self.end;
            }
            for stretches in lane.layers.values_mut() {
                for next in 1..=stretches.len() {
                    stretches[next - 1].to = stretches.get(next).map_or(self.end, |stretch| stretch.from);
                }
            }
        }
    }
}

impl Lane {
    fn open(&mut self, at: f64, what: What) {
        let free = |row: &usize| !self.bars.iter().any(|bar| bar.row == *row && bar.outcome.is_none());
        let row = (0..).find(free).unwrap_or_default();
        self.bars.push(Bar { from: at, to: at, row, what, outcome: None });
    }

    fn end(&mut self, at: f64, what: &What, outcome: &Outcome) {
        let open = self.bars.iter_mut().rev().find(|bar| bar.what == *what && bar.outcome.is_none());
        if let Some(bar) = open {
            bar.to = at;
            bar.outcome = Some(outcome.clone());
        }
    }

    fn failure(&mut self, at: f64, what: &str, outcome: &Outcome) {
        if let Outcome::Failed { cause } = outcome {
            self.mark(at, MarkKind::Outcome, true, format!("{what} failed: {cause}"));
        }
    }

    fn mark(&mut self, at: f64, kind: MarkKind, bad: bool, text: String) {
        self.marks.push(Mark { at, kind, bad, text });
    }

    /// The number of rows for the bars.
    pub(super) fn rows(&self) -> usize {
        self.bars.iter().map(|bar| bar.row + 1).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn of(kinds: Vec<EventKind>) -> Vec<Timeline> {
        let event = |(seq, kind)| Event { seq, at: Duration::from_secs(seq), kind };
        Timeline::all(&(0..).zip(kinds).map(event).collect::<Vec<_>>())
    }

    fn planned(name: &str) -> EventKind {
        EventKind::NodePlanned {
            node: NodeName::new(name).expect("name"),
            kind: Kind::Worker,
            role: Role::new("compute").expect("role"),
            address: [10, 5, 0, 11].into(),
            image: None,
        }
    }

    fn started(scenario: &str) -> EventKind {
        EventKind::ScenarioStarted { scenario: scenario.into(), question: String::new() }
    }

    #[test]
    fn steps_at_the_same_time_have_rows_of_their_own_and_open_ones_last_to_the_end() {
        let subject = Subject::Node(NodeName::new("w").expect("name"));
        let begin = |step| EventKind::StepStarted { subject: subject.clone(), step };
        let done =
            |step| EventKind::StepFinished { subject: subject.clone(), step, outcome: Outcome::Passed };
        let timelines = of(vec![
            planned("w"),
            begin(Step::Boot),
            begin(Step::Maintenance),
            done(Step::Boot),
            begin(Step::Ready),
            EventKind::Note { subject: Subject::Cluster, text: "x".into() },
        ]);
        let bars: Vec<_> = timelines[0].lanes[1]
            .bars
            .iter()
            .map(|bar| (bar.row, bar.from, bar.to, bar.what.label()))
            .collect();
        assert_eq!(bars, [(0, 1.0, 3.0, "boot"), (1, 2.0, 5.0, "maintenance mode"), (0, 4.0, 5.0, "ready")]);
    }

    #[test]
    fn each_scenario_has_its_own_nodes_and_its_own_time() {
        let timelines = of(vec![started("a"), planned("w"), started("b"), planned("w"), planned("v")]);
        let seen: Vec<_> = timelines.iter().map(|t| (t.begin, t.end, t.nodes().count())).collect();
        assert_eq!(seen, [(0.0, 1.0, 1), (2.0, 4.0, 2)]);
    }

    #[test]
    fn a_layer_stands_as_it_is_until_it_changes() {
        let layer = |state| EventKind::LayerChanged {
            node: NodeName::new("w").expect("name"),
            layer: Layer::Services,
            state,
            detail: String::new(),
        };
        let note = EventKind::Note { subject: Subject::Cluster, text: "end".into() };
        let timelines = of(vec![planned("w"), layer(LayerState::Waiting), layer(LayerState::Green), note]);
        let stretches = &timelines[0].lanes[1].layers[&Layer::Services];
        let seen: Vec<_> = stretches.iter().map(|s| (s.from, s.to, s.state)).collect();
        assert_eq!(seen, [(1.0, 2.0, LayerState::Waiting), (2.0, 3.0, LayerState::Green)]);
    }
}
