//! How long a demo takes, against what is promised on a stage.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    events::{Event, Happening, Outcome, Step, Subject},
    node::NodeName,
};

/// What its figures are called, what they measure, and the promise that the images' users make.
const BOOT: Promise = Promise {
    name: "boot",
    measures: "from power-on to maintenance mode, the slowest node",
    budget: Duration::from_secs(5 * 60),
};
const BOOTSTRAP: Promise = Promise {
    name: "bootstrap",
    measures: "from the first power-on to an API server that is ready, the slowest cluster",
    budget: Duration::from_secs(8 * 60),
};
const WHOLE: Promise = Promise {
    name: "whole flow",
    measures: "from the start of the run to its verdict",
    budget: Duration::from_secs(25 * 60),
};

struct Promise {
    name: &'static str,
    measures: &'static str,
    budget: Duration,
}

/// The figures of a run. Made from its events alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stopwatch {
    /// Boot, bootstrap and the whole flow.
    pub figures: Vec<Figure>,
}

/// A figure and its budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What it is called.
    pub name: &'static str,
    /// From what to what.
    pub measures: &'static str,
    /// What must not be exceeded; measured time counts, not that of the reference host.
    #[serde(serialize_with = "seconds")]
    pub budget: Duration,
    /// What was measured, or why nothing was.
    #[serde(serialize_with = "or_missing")]
    pub measured: Result<Measured, String>,
    /// Whether it was measured and is within its budget.
    pub holds: bool,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// On which node or in which scenario; empty for the run.
    pub of: String,
    /// How long it took.
    #[serde(serialize_with = "seconds")]
    pub time: Duration,
    /// What that is on the reference host, when guests were emulated and the host's speed was
    /// measured.
    pub reference: Option<Reference>,
}

/// A time with the slowness of the host taken out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reference {
    /// How long it takes on the reference host.
    #[serde(serialize_with = "seconds")]
    pub time: Duration,
    /// How many times slower this host was meanwhile.
    pub factor: f64,
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64((duration.as_secs_f64() * 100.0).round() / 100.0)
}

fn or_missing<S: Serializer>(measured: &Result<Measured, String>, to: S) -> Result<S::Ok, S::Error> {
    match measured {
        Ok(measured) => measured.serialize(to),
        Err(why) => serde_json::json!({ "missing": why }).serialize(to),
    }
}

impl Stopwatch {
    /// The figures of a whole recording.
    pub fn of(events: &[Event]) -> Self {
        let mut seen = Laps::default();
        for event in events {
            seen.add(event);
        }
        let boot = slowest(seen.boots.iter().map(|(node, lap)| (node.as_str(), lap)));
        let bootstrap = slowest(seen.bootstraps.iter().map(|(scenario, lap)| (scenario.as_str(), lap)));
        let whole = seen.run.ended.map(|_| ("", &seen.run)).ok_or_else(|| "the run did not end".to_owned());
        let figures = [(BOOT, boot), (BOOTSTRAP, bootstrap), (WHOLE, whole)];
        let figure = |(promise, lap): (Promise, Result<(&str, &Lap), String>)| {
            let measured = lap.map(|(of, lap)| seen.speeds.measured(of, lap));
            Figure {
                name: promise.name,
                measures: promise.measures,
                budget: promise.budget,
                holds: measured.as_ref().is_ok_and(|measured| measured.time <= promise.budget),
                measured,
            }
        };
        Self { figures: figures.into_iter().map(figure).collect() }
    }

    /// Whether every figure was measured and is within its budget.
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.holds)
    }
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
    run: Lap,
    scenario: String,
    /// By node and scenario.
    boots: Vec<(String, Lap)>,
    /// The boots that go on, as positions in `boots`.
    booting: BTreeMap<NodeName, usize>,
    /// By scenario.
    bootstraps: Vec<(String, Lap)>,
    speeds: Speeds,
}

/// From a moment to another, once that came.
#[derive(Clone, Copy, Default)]
struct Lap {
    began: Duration,
    ended: Option<Duration>,
}

impl Lap {
    fn time(self) -> Option<Duration> {
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
        match &event.happening {
            Happening::RunStarted { .. } => self.run.began = at,
            Happening::RunFinished { .. } => self.run.ended = Some(at),
            Happening::ScenarioStarted { scenario, .. } => {
                self.scenario.clone_from(scenario);
                self.booting.clear();
            }
            Happening::HostMeasured { accelerator, speed_factor, .. } => {
                self.speeds.add(at, accelerator, *speed_factor);
            }
            Happening::StepStarted { subject: Subject::Node(node), step: Step::Boot } => {
                self.powered_on(node, at);
            }
            Happening::StepFinished {
                subject: Subject::Node(node),
                step: Step::Maintenance,
                outcome: Outcome::Passed,
            } => {
                if let Some(lap) = self.booting.remove(node).and_then(|position| self.boots.get_mut(position))
                {
                    lap.1.ended = Some(at);
                }
            }
            Happening::StepFinished { step: Step::KubernetesApi, outcome: Outcome::Passed, .. } => {
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
fn slowest<'a>(mut laps: impl Iterator<Item = (&'a str, &'a Lap)>) -> Result<(&'a str, &'a Lap), String> {
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

/// How slow the host was, from when on. Times of emulation alone are converted: elsewhere the
/// factor, which is that of a bare kernel's boot, says little about a cluster.
#[derive(Default)]
struct Speeds {
    factors: Vec<(Duration, f64)>,
}

impl Speeds {
    fn add(&mut self, at: Duration, accelerator: &str, factor: f64) {
        if accelerator.starts_with("tcg") && factor.is_finite() && factor > 0.0 {
            self.factors.push((at, factor));
        }
    }

    fn measured(&self, of: &str, lap: &Lap) -> Measured {
        let time = lap.time().unwrap_or_default();
        Measured { of: of.to_owned(), time, reference: self.reference(lap, time) }
    }

    /// Each stretch of the lap divided by the factor of then; before the first measurement, by that.
    fn reference(&self, lap: &Lap, time: Duration) -> Option<Reference> {
        let (began, ended) = (lap.began.as_secs_f64(), lap.ended?.as_secs_f64());
        let starts = self.factors.iter().enumerate().map(|(n, (at, factor))| {
            let from = if n == 0 { f64::NEG_INFINITY } else { at.as_secs_f64() };
            let next = self.factors.get(n + 1).map_or(f64::INFINITY, |(at, _)| at.as_secs_f64());
            (from.max(began), next.min(ended), *factor)
        });
        let reference: f64 = starts.map(|(from, to, factor)| (to - from).max(0.0) / factor).sum();
        let factor = time.as_secs_f64() / reference;
        let reference = Duration::try_from_secs_f64(reference).ok()?;
        factor.is_finite().then_some(Reference { time: reference, factor })
    }
}

impl fmt::Display for Stopwatch {
    /// A block fit for pasting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Stopwatch")?;
        self.figures.iter().try_for_each(|figure| write!(f, "{figure}"))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.holds { "✅" } else { "❌" };
        let budget = self.budget.as_secs();
        match &self.measured {
            Err(why) => {
                writeln!(f, "{mark} {:<10}       – of {budget:>4} s   {}: {why}", self.name, self.measures)
            }
            Ok(measured) => {
                let time = measured.time.as_secs_f64();
                write!(f, "{mark} {:<10} {time:>5.0} s of {budget:>4} s   {}", self.name, self.measures)?;
                match measured.of.as_str() {
                    "" => writeln!(f)?,
                    of => writeln!(f, ": {of}")?,
                }
                match measured.reference {
                    None => Ok(()),
                    Some(Reference { time: reference, factor }) => writeln!(
                        f,
                        "     measured {time:.0} s; on the reference host {:.0} s at factor {factor:.2}",
                        reference.as_secs_f64()
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Subject {
        Subject::Node(NodeName::new(name).expect("name"))
    }

    fn started(name: &str, step: Step) -> Happening {
        Happening::StepStarted { subject: node(name), step }
    }

    fn finished(name: &str, step: Step) -> Happening {
        Happening::StepFinished { subject: node(name), step, outcome: Outcome::Passed }
    }

    fn measured(accelerator: &str, speed_factor: f64) -> Happening {
        Happening::HostMeasured { accelerator: accelerator.into(), qemu: "10.0".into(), speed_factor }
    }

    fn scenario(name: &str) -> Happening {
        Happening::ScenarioStarted { scenario: name.into(), question: String::new() }
    }

    /// A rehearsal of two scenarios, with the seconds at which things happen.
    fn rehearsal(accelerator: &str) -> Vec<(u64, Happening)> {
        let run = Happening::RunStarted {
            run: "r".into(),
            title: "rehearsal".into(),
            wall: jiff::Timestamp::UNIX_EPOCH,
            format: crate::events::FORMAT,
            shard: None,
        };
        vec![
            (0, run),
            (1, scenario("compute-only-cluster")),
            (2, measured(accelerator, 1.25)),
            (10, started("cp-1", Step::Boot)),
            (12, started("worker-1", Step::Boot)),
            (20, finished("cp-1", Step::Maintenance)),
            (62, finished("worker-1", Step::Maintenance)),
            (90, finished("cp-1", Step::KubernetesApi)),
            // A power cycle: it never comes to maintenance mode again, and need not.
            (200, started("worker-1", Step::Boot)),
            (300, scenario("mixed-role-cluster")),
            (300, measured(accelerator, 2.0)),
            (310, started("cp-1", Step::Boot)),
            (340, finished("cp-1", Step::Maintenance)),
            (410, finished("cp-1", Step::KubernetesApi)),
            (500, Happening::RunFinished { outcome: Outcome::Passed }),
        ]
    }

    fn stopwatch(timed: Vec<(u64, Happening)>) -> Stopwatch {
        let event = |(seq, (at, happening))| Event { seq, at: Duration::from_secs(at), happening };
        Stopwatch::of(&(0..).zip(timed).map(event).collect::<Vec<_>>())
    }

    #[test]
    fn a_rehearsal_within_its_budgets_reads_with_the_slowness_of_emulation_apart() {
        let stopwatch = stopwatch(rehearsal("tcg,thread=multi"));
        assert!(stopwatch.holds());
        insta::assert_snapshot!(stopwatch, @r"
        Stopwatch
        ✅ boot          50 s of  300 s   from power-on to maintenance mode, the slowest node: worker-1 of compute-only-cluster
             measured 50 s; on the reference host 40 s at factor 1.25
        ✅ bootstrap    100 s of  480 s   from the first power-on to an API server that is ready, the slowest cluster: mixed-role-cluster
             measured 100 s; on the reference host 50 s at factor 2.00
        ✅ whole flow   500 s of 1500 s   from the start of the run to its verdict
             measured 500 s; on the reference host 340 s at factor 1.47
        ");
    }

    #[test]
    fn a_figure_runs_until_what_it_counts_has_come() {
        let at = |seconds: u64| {
            let mut laps = Laps::default();
            let timed = rehearsal("tcg").into_iter().filter(|(at, _)| *at <= seconds);
            for (seq, (at, happening)) in (0..).zip(timed) {
                laps.add(&Event { seq, at: Duration::from_secs(at), happening });
            }
            laps.lapses(Duration::from_secs(seconds)).map(|(_, _, lapse)| lapse)
        };
        let s = Duration::from_secs;
        assert_eq!(at(5), [Lapse::NotYet, Lapse::NotYet, Lapse::Running(s(5))]);
        assert_eq!(at(30), [Lapse::Running(s(18)), Lapse::Running(s(20)), Lapse::Running(s(30))]);
        assert_eq!(at(90), [Lapse::Done(s(50)), Lapse::Done(s(80)), Lapse::Running(s(90))]);
        assert_eq!(at(500), [Lapse::Done(s(50)), Lapse::Done(s(100)), Lapse::Done(s(500))]);
    }

    #[test]
    fn with_hardware_acceleration_there_is_nothing_to_convert() {
        let text = stopwatch(rehearsal("kvm")).to_string();
        assert!(!text.contains("reference host"), "{text}");
    }

    #[test]
    fn each_budget_can_be_exceeded_by_itself() {
        let late = |position: usize, by: u64| {
            let mut timed = rehearsal("tcg");
            timed[position].0 += by;
            stopwatch(timed).figures.iter().map(|figure| figure.holds).collect::<Vec<_>>()
        };
        assert_eq!(late(12, 270), [true, true, true]);
        assert_eq!(late(12, 271), [false, true, true]);
        assert_eq!(late(13, 380), [true, true, true]);
        assert_eq!(late(13, 381), [true, false, true]);
        assert_eq!(late(14, 1001), [true, true, false]);
    }

    #[test]
    fn what_did_not_come_about_exceeds_its_budget() {
        let mut timed = rehearsal("tcg");
        // The second control plane neither comes up nor has an API; the run breaks off.
        timed.truncate(12);
        insta::assert_snapshot!(stopwatch(timed), @r"
        Stopwatch
        ❌ boot             – of  300 s   from power-on to maintenance mode, the slowest node: cp-1 of mixed-role-cluster did not come to it
        ❌ bootstrap        – of  480 s   from the first power-on to an API server that is ready, the slowest cluster: mixed-role-cluster did not come to it
        ❌ whole flow       – of 1500 s   from the start of the run to its verdict: the run did not end
        ");
        let nothing = stopwatch(Vec::new());
        assert_eq!(nothing.figures[0].measured, Err("nothing was powered on".to_owned()));
        let mut failed = rehearsal("tcg");
        failed[12].1 = Happening::StepFinished {
            subject: node("cp-1"),
            step: Step::Maintenance,
            outcome: Outcome::Failed { cause: "kernel panic".into() },
        };
        assert!(!stopwatch(failed).figures[0].holds);
    }

    #[test]
    fn figures_are_json_in_seconds() {
        let value = |timed| serde_json::to_value(stopwatch(timed)).expect("JSON")["figures"][2].clone();
        let whole = value(rehearsal("tcg"));
        assert_eq!((&whole["budget"], &whole["measured"]["time"]), (&1500.0.into(), &500.0.into()));
        assert_eq!(value(Vec::new())["measured"]["missing"], "the run did not end");
    }
}
