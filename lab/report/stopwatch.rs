//! The durations of a demo, compared with the stage budgets.

use std::{fmt, time::Duration};

use lab_model::events::{Event, EventKind};
use serde::{Serialize, Serializer};

use super::laps::{BOOT, BOOTSTRAP, Lap, Laps, Promise, WHOLE, slowest};

/// The figures of a run, computed from its events alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stopwatch {
    /// Boot, bootstrap and the complete flow.
    pub figures: Vec<Figure>,
}

/// A figure and its budget.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub name: &'static str,
    /// The start and end of the measurement.
    pub measures: &'static str,
    /// The budget. It applies to the measured time, not to the time on the reference host.
    #[serde(serialize_with = "seconds")]
    pub budget: Duration,
    /// The measurement, or the reason why it is missing.
    #[serde(serialize_with = "or_missing")]
    pub measured: Result<Measured, String>,
    /// Whether a measurement exists and is within its budget.
    pub holds: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The node or scenario; empty for the whole run.
    pub of: String,
    #[serde(serialize_with = "seconds")]
    pub time: Duration,
    /// The duration on the reference host, if guests were emulated and the host's speed was measured.
    pub reference: Option<Reference>,
}

/// A duration, scaled to the reference host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reference {
    /// The duration on the reference host.
    #[serde(serialize_with = "seconds")]
    pub time: Duration,
    /// The factor by which this host was slower during the measurement.
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
    /// The figures of a complete recording.
    pub fn of(events: &[Event]) -> Self {
        let (mut seen, mut speeds) = (Laps::default(), Speeds::default());
        for event in events {
            seen.add(event);
            if let EventKind::HostMeasured { accelerator, speed_factor, .. } = &event.kind {
                speeds.add(event.at, accelerator, *speed_factor);
            }
        }
        let boot = slowest(seen.boots.iter().map(|(node, lap)| (node.as_str(), lap)));
        let bootstrap = slowest(seen.bootstraps.iter().map(|(scenario, lap)| (scenario.as_str(), lap)));
        let whole = seen.run.ended.map(|_| ("", &seen.run)).ok_or_else(|| "the run did not end".to_owned());
        let figures = [(BOOT, boot), (BOOTSTRAP, bootstrap), (WHOLE, whole)];
        let figure = |(promise, lap): (Promise, Result<(&str, &Lap), String>)| {
            let measured = lap.map(|(of, lap)| speeds.measured(of, lap));
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

    /// Whether every figure has a measurement within its budget.
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.holds)
    }
}

/// The speed factors of the host, with their start times. Only emulated times are converted: with
/// other accelerators, the factor of a bare kernel's boot is not representative of a cluster.
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

    /// Divides each part of the lap by the factor at that time. The time before the first measurement
    /// uses the first factor.
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
    /// A block for pasting.
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
    use super::{super::laps::Lapse, *};
    use lab_model::{
        events::{Outcome, Step, Subject},
        node::NodeName,
    };

    fn node(name: &str) -> Subject {
        Subject::Node(NodeName::new(name).expect("name"))
    }

    fn started(name: &str, step: Step) -> EventKind {
        EventKind::StepStarted { subject: node(name), step }
    }

    fn finished(name: &str, step: Step) -> EventKind {
        EventKind::StepFinished { subject: node(name), step, outcome: Outcome::Passed }
    }

    fn measured(accelerator: &str, speed_factor: f64) -> EventKind {
        EventKind::HostMeasured { accelerator: accelerator.into(), qemu: "10.0".into(), speed_factor }
    }

    fn scenario(name: &str) -> EventKind {
        EventKind::ScenarioStarted { scenario: name.into(), question: String::new() }
    }

    /// A rehearsal of two scenarios, with the times of its events in seconds.
    fn rehearsal(accelerator: &str) -> Vec<(u64, EventKind)> {
        let run = EventKind::RunStarted {
            run: "r".into(),
            title: "rehearsal".into(),
            wall: jiff::Timestamp::UNIX_EPOCH,
            format: lab_model::events::FORMAT,
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
            // A power cycle: the node does not enter maintenance mode again.
            (200, started("worker-1", Step::Boot)),
            (300, scenario("mixed-role-cluster")),
            (300, measured(accelerator, 2.0)),
            (310, started("cp-1", Step::Boot)),
            (340, finished("cp-1", Step::Maintenance)),
            (410, finished("cp-1", Step::KubernetesApi)),
            (500, EventKind::RunFinished { outcome: Outcome::Passed }),
        ]
    }

    fn stopwatch(timed: Vec<(u64, EventKind)>) -> Stopwatch {
        let event = |(seq, (at, kind))| Event { seq, at: Duration::from_secs(at), kind };
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
            for (seq, (at, kind)) in (0..).zip(timed) {
                laps.add(&Event { seq, at: Duration::from_secs(at), kind });
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
        // The second control plane does not start and has no API; the run breaks off.
        timed.truncate(12);
        insta::assert_snapshot!(stopwatch(timed), @r"
        Stopwatch
        ❌ boot             – of  300 s   from power-on to maintenance mode, the slowest node: cp-1 of mixed-role-cluster did not reach it
        ❌ bootstrap        – of  480 s   from the first power-on to an API server that is ready, the slowest cluster: mixed-role-cluster did not reach it
        ❌ whole flow       – of 1500 s   from the start of the run to its verdict: the run did not end
        ");
        let nothing = stopwatch(Vec::new());
        assert_eq!(nothing.figures[0].measured, Err("nothing was powered on".to_owned()));
        let mut failed = rehearsal("tcg");
        failed[12].1 = EventKind::StepFinished {
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
