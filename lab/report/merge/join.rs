//! Joins recordings: one time axis, one order of scenarios, one verdict.

use std::time::Duration;

use lab_model::events::{Event, EventKind, Outcome, Shard, ShardNumber};
use serde::Serialize;

use super::{
    error::MergeError,
    recording::{Block, ShardRecording},
};

/// The joined recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The events, grouped by scenario. `at` is the time since the start of the first shard, by the
    /// shards' own clocks, so parallel scenarios overlap.
    pub events: Vec<Event>,
    /// The joined recordings, in the order of the shards.
    pub shards: Vec<MergedShard>,
    /// The overall verdict.
    pub outcome: Outcome,
}

/// A recording that is part of the joined recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MergedShard {
    /// The path of the recording.
    pub from: String,
    /// The number of the shard, if the recording contains it.
    pub shard: Option<ShardNumber>,
    pub scenarios: Vec<String>,
    /// The verdict of the shard; `None` if its recording breaks off.
    pub outcome: Option<Outcome>,
    /// Seconds from the start of the first shard to the start of this shard.
    pub started_after: f64,
}

/// Joins recordings into the recording of a run with the name `run`. If the recordings are shards,
/// scenarios follow the order of the whole run (the order in the first shard, if the shards differ).
/// Otherwise they are sorted by name. The order of `recordings` has no effect.
///
/// # Errors
/// Fails if the recordings do not belong together.
pub fn merge(run: &str, mut recordings: Vec<ShardRecording>) -> Result<Merged, MergeError> {
    recordings.sort_by(|a, b| place(a).cmp(&place(b)));
    let whole = one_run(&recordings)?.cloned();
    let Some(wall) = recordings.iter().map(|recording| recording.wall).min() else {
        return Err(MergeError::Nothing);
    };
    let format = recordings.iter().map(|recording| recording.format).max().unwrap_or_default();
    let offset = |recording: &ShardRecording| -> Duration {
        recording.wall.duration_since(wall).try_into().unwrap_or_default()
    };
    let shards: Vec<_> = recordings
        .iter()
        .map(|recording| MergedShard {
            from: recording.from.clone(),
            shard: recording.shard.as_ref().map(|shard| shard.number),
            scenarios: recording.scenarios.iter().map(|block| block.name.clone()).collect(),
            outcome: recording.ended.clone(),
            started_after: offset(recording).as_secs_f64(),
        })
        .collect();
    let mut blocks: Vec<(&ShardRecording, &Block)> = recordings
        .iter()
        .flat_map(|recording| recording.scenarios.iter().map(move |block| (recording, block)))
        .collect();
    // A single recording is already in order. The sort is stable: equal elements stay in the order of
    // the shards.
    if recordings.len() > 1 {
        blocks.sort_by_key(|(_, block)| position(whole.as_ref(), &block.name));
    }
    let outcome = Outcome::over(&causes(&recordings, &blocks, whole.as_ref()));
    let title = title(&recordings, &blocks, whole.as_ref());
    let start = EventKind::RunStarted { run: run.to_owned(), title, wall, format, shard: None };
    let later = |recording: &ShardRecording, event: &Event| {
        let at = event.at + offset(recording);
        (at, event.kind.clone())
    };
    let mut all = vec![(Duration::ZERO, start)];
    for recording in &recordings {
        all.extend(recording.before.iter().map(|event| later(recording, event)));
    }
    for (recording, block) in &blocks {
        all.extend(block.events.iter().map(|event| later(recording, event)));
    }
    let end = recordings.iter().map(|recording| recording.last + offset(recording)).max();
    all.push((end.unwrap_or_default(), EventKind::RunFinished { outcome: outcome.clone() }));
    let events = (0..).zip(all).map(|(seq, (at, kind))| Event { seq, at, kind }).collect();
    Ok(Merged { events, shards, outcome })
}

/// The sort key of a recording.
fn place(recording: &ShardRecording) -> (Option<ShardNumber>, jiff::Timestamp, &str) {
    (recording.shard.as_ref().map(|shard| shard.number), recording.wall, &recording.run)
}

/// The position of a scenario in the whole run, and its name.
fn position(whole: Option<&Shard>, name: &str) -> (usize, String) {
    let known = whole.and_then(|shard| shard.of_scenarios.iter().position(|known| known == name));
    (known.unwrap_or(usize::MAX), name.to_owned())
}

/// Checks that sorted recordings belong to one run, and returns the shard data of the whole run.
fn one_run(recordings: &[ShardRecording]) -> Result<Option<&Shard>, MergeError> {
    for (first, second) in recordings.iter().zip(recordings.iter().skip(1)) {
        let names = || (first.from.clone(), second.from.clone());
        if first.format != second.format {
            let ((first_format, second_format), (first, second)) = ((first.format, second.format), names());
            return Err(MergeError::Formats { first, first_format, second, second_format });
        }
        let parts = match (&first.shard, &second.shard) {
            (None, None) => (first.wall == second.wall && first.run == second.run)
                .then(|| format!("of the run {}", first.run)),
            (Some(one), Some(other)) if same_run(one, other) => {
                (one.number == other.number).then(|| first.label())
            }
            _ => {
                let ((first_is, second_is), (first, second)) = ((first.kind(), second.kind()), names());
                return Err(MergeError::OtherRun { first, first_is, second, second_is });
            }
        };
        if let Some(what) = parts {
            let (first, second) = names();
            return Err(MergeError::Twice { first, second, what });
        }
    }
    Ok(recordings.first().and_then(|recording| recording.shard.as_ref()))
}

/// Whether two shards belong to one run. Each host may have received the scenarios in a different
/// order.
fn same_run(one: &Shard, other: &Shard) -> bool {
    let sorted = |shard: &Shard| {
        let mut names = shard.of_scenarios.clone();
        names.sort();
        names
    };
    one.number.of() == other.number.of() && sorted(one) == sorted(other)
}

/// The reasons why the whole run did not pass: scenarios in order, then shards.
fn causes(
    recordings: &[ShardRecording],
    blocks: &[(&ShardRecording, &Block)],
    whole: Option<&Shard>,
) -> Vec<String> {
    let mut causes = Vec::new();
    for (recording, block) in blocks {
        match block.outcome() {
            Some(outcome) => causes.extend(outcome.cause_of(&block.name)),
            // The reason why a shard did not reach it is reported once, below.
            None if matches!(recording.ended, Some(Outcome::Passed)) => {
                causes.push(format!("{}: its recording has no verdict", block.name));
            }
            None => {}
        }
    }
    for recording in recordings {
        match &recording.ended {
            None => causes.push(format!("{} ended without a verdict", recording.label())),
            Some(outcome) => {
                let failed = |block: &Block| block.outcome().is_some_and(|outcome| !outcome.passed());
                let told =
                    matches!(outcome, Outcome::Failed { .. }) && recording.scenarios.iter().any(failed);
                if !told {
                    causes.extend(outcome.cause_of(&recording.label()));
                }
            }
        }
    }
    causes.extend(whole.into_iter().flat_map(|whole| lacking(recordings, whole)));
    causes
}

/// The scenarios that no shard ran, unless the shard itself reports the reason.
fn lacking(recordings: &[ShardRecording], whole: &Shard) -> Vec<String> {
    let names = &whole.of_scenarios;
    let numbers = (1..=whole.number.of()).filter_map(|number| ShardNumber::new(number, whole.number.of()));
    let mut causes = Vec::new();
    for number in numbers {
        let its: Vec<&str> = number.picks(names).into_iter().map(|at| names[at].as_str()).collect();
        let own =
            |recording: &&ShardRecording| recording.shard.as_ref().is_some_and(|own| own.number == number);
        match recordings.iter().find(own) {
            None if !its.is_empty() => {
                causes.push(format!("shard {number} is missing, so {} did not run", its.join(", ")));
            }
            Some(ShardRecording { ended: Some(Outcome::Passed), scenarios, .. }) => {
                let ran = |name: &&str| scenarios.iter().any(|block| block.name == **name);
                let not: Vec<_> = its.into_iter().filter(|name| !ran(name)).collect();
                if !not.is_empty() {
                    causes.push(format!("shard {number} passed without {}", not.join(", ")));
                }
            }
            _ => {}
        }
    }
    causes
}

/// The title of the whole run: the default title of `lab run`, unless all recordings have the same
/// title.
fn title(
    recordings: &[ShardRecording],
    blocks: &[(&ShardRecording, &Block)],
    whole: Option<&Shard>,
) -> String {
    if let Some(whole) = whole {
        return whole.of_scenarios.join("+");
    }
    let titles = || recordings.iter().map(|recording| recording.title.as_str());
    match titles().next() {
        Some(first) if titles().all(|title| title == first) => first.to_owned(),
        _ => blocks.iter().map(|(_, block)| block.name.as_str()).collect::<Vec<_>>().join("+"),
    }
}
