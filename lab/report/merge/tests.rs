//! Tests with synthetic recordings that are split and joined again.

use std::time::Duration;

use lab_model::{
    events::{Event, EventKind, FORMAT, Layer, LayerState, Outcome, Shard, ShardNumber, Step, Subject},
    node::{Kind, NodeName, Role},
};
use proptest::prelude::*;

use super::*;
use crate::Summary;

/// A scenario to record: its name, and whether it passes.
type Played<'a> = (&'a str, bool);

/// The events of a scenario with one node.
fn scenario(name: &str, passes: bool) -> Vec<EventKind> {
    let node = NodeName::new("cp-1").expect("name");
    let subject = Subject::Node(node.clone());
    let outcome =
        if passes { Outcome::Passed } else { Outcome::Failed { cause: "check pod-network: lost".into() } };
    let mut kinds = vec![
        EventKind::ScenarioStarted { scenario: name.into(), question: format!("Does {name} form?") },
        EventKind::HostMeasured { accelerator: "tcg".into(), qemu: "10.0".into(), speed_factor: 1.25 },
        EventKind::NodePlanned {
            node: node.clone(),
            kind: Kind::ControlPlane,
            role: Role::new("compute").expect("role"),
            address: [10, 5, 0, 10].into(),
            image: None,
        },
    ];
    for step in [Step::Boot, Step::Maintenance, Step::KubernetesApi] {
        kinds.push(EventKind::StepStarted { subject: subject.clone(), step });
        kinds.push(EventKind::Console { node: node.clone(), line: format!("{step:?}") });
        let outcome = Outcome::Passed;
        kinds.push(EventKind::StepFinished { subject: subject.clone(), step, outcome });
    }
    kinds.extend(Layer::ALL.map(|layer| EventKind::LayerChanged {
        node: node.clone(),
        layer,
        state: LayerState::Green,
        detail: String::new(),
    }));
    let (check, title) = ("pod-network".to_owned(), "GIVEN a WHEN b THEN c".to_owned());
    kinds.push(EventKind::CheckStarted { check: check.clone(), title: title.clone() });
    kinds.push(EventKind::CheckFinished {
        check,
        title,
        outcome: outcome.clone(),
        evidence: vec![format!("seen in {name}")],
    });
    kinds.push(EventKind::ScenarioFinished { scenario: name.into(), outcome });
    kinds
}

/// A recording with one event per second, as `lab run` creates it.
fn recorded(run: &str, wall: i64, shard: Option<Shard>, played: &[Played<'_>]) -> Vec<Event> {
    let names: Vec<_> = played.iter().map(|(name, _)| *name).collect();
    let mut kinds = vec![EventKind::RunStarted {
        run: run.into(),
        title: names.join("+"),
        wall: jiff::Timestamp::from_second(wall).expect("time"),
        format: FORMAT,
        shard,
    }];
    let mut causes = Vec::new();
    for (name, passes) in played {
        let block = scenario(name, *passes);
        if let Some(EventKind::ScenarioFinished { outcome, .. }) = block.last() {
            causes.extend(outcome.cause_of(name));
        }
        kinds.extend(block);
    }
    kinds.push(EventKind::RunFinished { outcome: Outcome::over(&causes) });
    let event = |(seq, kind)| Event { seq, at: Duration::from_secs(seq), kind };
    (0..).zip(kinds).map(event).collect()
}

/// The recordings of the shards of a run, each on a separate host with a different start time.
fn shards(of: u32, played: &[Played<'_>]) -> Vec<ShardRecording> {
    let names: Vec<String> = played.iter().map(|(name, _)| (*name).to_owned()).collect();
    let each = (1..=of).map(|part| {
        let number = ShardNumber::new(part, of).expect("a part");
        let own: Vec<_> = number.picks(&names).into_iter().map(|at| played[at]).collect();
        let shard = Shard { number, of_scenarios: names.clone() };
        let events = recorded(&format!("run-{part}"), 1000 + 7 * i64::from(of - part), Some(shard), &own);
        ShardRecording::of(format!("shard-{part}"), events).expect("a recording")
    });
    each.collect()
}

/// A summary as JSON, without its times and the run's name.
fn without_times(events: &[Event]) -> serde_json::Value {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    if ["seconds", "node_ready_after", "ready_after", "run", "started"]
                        .contains(&key.as_str())
                    {
                        *value = serde_json::Value::Null;
                    } else if key == "steps" {
                        value.as_object_mut().into_iter().flatten().for_each(|(_, time)| *time = 0.into());
                    }
                    strip(value);
                }
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(Summary::of(events)).expect("JSON");
    strip(&mut value);
    value
}

fn cause(merged: &Merged) -> &str {
    match &merged.outcome {
        Outcome::Failed { cause } => cause,
        other => panic!("{other:?}"),
    }
}

const FOUR: [Played<'_>; 4] = [("compute", true), ("mixed", false), ("tailnet", true), ("extension", true)];

#[test]
fn the_joined_recording_is_numbered_timed_and_ordered_as_one() {
    let merged = merge("nightly", shards(2, &FOUR)).expect("merged");
    let seqs: Vec<_> = merged.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (0..merged.events.len() as u64).collect::<Vec<_>>());
    let started: Vec<_> = merged
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::ScenarioStarted { scenario, .. } => Some((scenario.as_str(), event.at.as_secs())),
            _ => None,
        })
        .collect();
    // Shard 2 (extension, tailnet) started at second 1000, shard 1 seven seconds later. A scenario
    // has 18 events.
    assert_eq!(started, [("compute", 8), ("mixed", 26), ("tailnet", 1), ("extension", 19)]);
    assert_eq!(merged.events.first().map(|event| event.at), Some(Duration::ZERO));
    let last = merged.events.last().map(|event| event.at);
    assert_eq!(last, merged.events.iter().map(|event| event.at).max());
    let starts = merged.events.iter().filter(|e| matches!(e.kind, EventKind::RunStarted { .. }));
    let ends = merged.events.iter().filter(|e| matches!(e.kind, EventKind::RunFinished { .. }));
    assert_eq!((starts.count(), ends.count()), (1, 1));
    assert_eq!(cause(&merged), "mixed: check pod-network: lost");
    // The written recording can be read, and joining it alone does not change it.
    let again = merge("nightly", vec![ShardRecording::of("x".into(), merged.events.clone()).expect("one")]);
    assert_eq!(without_times(&again.expect("merged").events), without_times(&merged.events));
}

#[test]
fn the_order_in_which_shards_are_given_does_not_matter() {
    let mut given = shards(3, &FOUR);
    let merged = merge("nightly", given.clone()).expect("merged");
    // The order in which a later shard received its scenarios has no effect either.
    given[1].shard.iter_mut().for_each(|shard| shard.of_scenarios.reverse());
    for _ in 0..3 {
        given.rotate_left(1);
        assert_eq!(merge("nightly", given.clone()).expect("merged"), merged);
    }
}

#[test]
fn a_shard_without_an_end_counts_as_failed() {
    let mut given = shards(2, &FOUR[2..]);
    given[1].ended = None;
    let merged = merge("nightly", given).expect("merged");
    assert_eq!(cause(&merged), "shard 2/2 ended without a verdict");
    // The executed scenarios are still reported.
    assert_eq!(Summary::of(&merged.events).scenarios.len(), 2);
}

#[test]
fn a_shard_that_is_missing_counts_as_failed_unless_it_had_nothing_to_do() {
    let mut given = shards(3, &FOUR);
    given.remove(0);
    let merged = merge("nightly", given).expect("merged");
    let expected = "mixed: check pod-network: lost; shard 1/3 is missing, so compute, tailnet did not run";
    assert_eq!(cause(&merged), expected);
    let mut given = shards(3, &FOUR[2..]);
    given.remove(2);
    assert_eq!(merge("nightly", given).expect("merged").outcome, Outcome::Passed);
}

#[test]
fn a_shard_that_was_interrupted_or_left_a_scenario_out_counts_as_failed() {
    let mut given = shards(2, &FOUR[2..]);
    given[0].ended = Some(Outcome::NotRun { cause: "interrupted".into() });
    given[0].scenarios.clear();
    assert_eq!(cause(&merge("nightly", given).expect("merged")), "shard 1/2: interrupted");
    let mut given = shards(2, &FOUR[2..]);
    given[0].scenarios.clear();
    assert_eq!(cause(&merge("nightly", given).expect("merged")), "shard 1/2 passed without extension");
    let mut given = shards(2, &FOUR[2..]);
    given[0].scenarios[0].events.pop();
    assert_eq!(cause(&merge("nightly", given).expect("merged")), "extension: its recording has no verdict");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let refused = |recordings| merge("nightly", recordings).expect_err("refused").to_string();
    let two = || shards(2, &FOUR);
    let mut formats = two();
    formats[1].format = 0;
    assert_eq!(
        refused(formats),
        "shard-1 and shard-2 were recorded by different labs: their events have forms 1 and 0; run all shards with \
         one version of the lab"
    );
    let twice = vec![two().remove(0), two().remove(0)];
    assert_eq!(refused(twice), "shard-1 and shard-1 are both shard 1/2; leave one of them out");
    let other = vec![two().remove(0), shards(3, &FOUR).remove(1)];
    assert!(refused(other).ends_with("they are not parts of one run"));
    let by_itself =
        |run: &str| ShardRecording::of(run.into(), recorded(run, 5, None, &FOUR[..1])).expect("a recording");
    assert!(refused(vec![two().remove(0), by_itself("a")]).contains("a run by itself"));
    assert!(refused(vec![by_itself("a"), by_itself("a")]).contains("both of the run a"));
    assert!(refused(Vec::new()).starts_with("there is nothing to join"));
}

#[test]
fn what_is_not_the_recording_of_one_run_is_refused() {
    let refused = |events| ShardRecording::of("x".into(), events).expect_err("refused").to_string();
    let events = recorded("a", 0, None, &FOUR[..1]);
    assert!(refused(events[1..].to_vec()).contains("its first event is not the start"));
    assert!(refused(Vec::new()).contains("its first event is not the start"));
    assert!(refused([events.clone(), events.clone()].concat()).contains("begins at its event 0"));
    let mut late = events.clone();
    late[5].at = Duration::from_secs(u64::MAX / 2);
    assert!(refused(late).contains("its event 5 is"));
    let mut newer = events;
    if let EventKind::RunStarted { format, .. } = &mut newer[0].kind {
        *format = FORMAT + 1;
    }
    assert!(refused(newer).contains("by a newer lab"));
}

#[test]
fn a_recording_is_read_from_its_directory_and_a_missing_one_is_named() {
    let directory = tempfile::tempdir().expect("tempdir");
    let lines: Vec<_> = recorded("a", 0, None, &FOUR[..1])
        .iter()
        .map(|event| serde_json::to_string(event).expect("JSON") + "\n")
        .collect();
    // The last event is truncated.
    let text = lines.concat();
    std::fs::write(directory.path().join("events.jsonl"), &text[..text.len() - 5]).expect("write");
    let read = |path: &std::path::Path| ShardRecording::read_all(&[path.to_owned()]);
    let recording = &read(directory.path()).expect("read")[0];
    assert_eq!((recording.scenarios.len(), &recording.ended), (1, &None));
    assert_eq!(read(&directory.path().join("events.jsonl")).expect("read")[0].ended, None);
    let error = read(&directory.path().join("none")).expect_err("missing").to_string();
    assert!(error.contains("none") && error.contains("give a run directory"), "{error}");
}

proptest! {
    #[test]
    fn the_split_of_a_run_joined_has_the_summary_of_the_run(
        names in proptest::collection::btree_map("[a-e]{1,3}", any::<bool>(), 1..6),
        of in 1u32..5,
        turn in 0usize..6,
    ) {
        let mut played: Vec<Played<'_>> = names.iter().map(|(name, passes)| (name.as_str(), *passes)).collect();
        let one = recorded("one", 500, None, &played);
        // Without shard data: in the order of names.
        let parts = played.iter().enumerate().map(|(at, played)| {
            let events = recorded(&format!("part-{at}"), 100 - at as i64, None, std::slice::from_ref(played));
            ShardRecording::of(at.to_string(), events).expect("a recording")
        });
        let merged = merge("one", parts.collect()).expect("merged");
        prop_assert_eq!(without_times(&merged.events), without_times(&one));
        // As shards: in the order of the run.
        let turn = turn % played.len();
        played.rotate_left(turn);
        let one = recorded("one", 500, None, &played);
        let merged = merge("one", shards(of, &played)).expect("merged");
        prop_assert_eq!(without_times(&merged.events), without_times(&one));
        let lengths = |events: &[Event]| {
            let summary = Summary::of(events);
            summary.scenarios.into_iter().map(|s| (s.all_ready_after(), s.checks.len())).collect::<Vec<_>>()
        };
        prop_assert_eq!(lengths(&merged.events), lengths(&one));
    }
}
