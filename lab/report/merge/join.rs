//! Joining: one axis of time, one order of scenarios, one verdict.

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
    /// Its events. Each scenario's stand together; `at` is the time since the first shard began, by
    /// the shards' own clocks, so scenarios that ran at once overlap.
    pub events: Vec<Event>,
    /// What it was made of, in the order of the shards.
    pub shards: Vec<MergedShard>,
    /// The verdict over all.
    pub outcome: Outcome,
}

/// A recording that went into the joined one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MergedShard {
    /// Where it was read from.
    pub from: String,
    /// Which part it is, if its recording says so.
    pub shard: Option<ShardNumber>,
    /// Its scenarios.
    pub scenarios: Vec<String>,
    /// Its own verdict; `None` when it broke off.
    pub outcome: Option<Outcome>,
    /// Seconds from the start of the first shard to its own start.
    pub started_after: f64,
}

/// Joins recordings into that of a run called `run`. Scenarios come in the order of the whole run
/// when the recordings are shards that know it (that of the first shard, should they differ),
/// otherwise by name; the order in which the recordings are given does not matter.
///
/// # Errors
/// When they do not belong together.
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
    // A recording by itself is in order. Stable: what is equal stays in the order of the shards.
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

/// Where a recording stands among the others.
fn place(recording: &ShardRecording) -> (Option<ShardNumber>, jiff::Timestamp, &str) {
    (recording.shard.as_ref().map(|shard| shard.number), recording.wall, &recording.run)
}

/// Where a scenario stands in the whole run, and by name.
fn position(whole: Option<&Shard>, name: &str) -> (usize, String) {
    let known = whole.and_then(|shard| shard.of_scenarios.iter().position(|known| known == name));
    (known.unwrap_or(usize::MAX), name.to_owned())
}

/// Proves that sorted recordings are of one run, and returns what its shards know of it.
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

/// Whether two shards are of one run. Each host may have been given the scenarios in an order of its own.
fn same_run(one: &Shard, other: &Shard) -> bool {
    let sorted = |shard: &Shard| {
        let mut names = shard.of_scenarios.clone();
        names.sort();
        names
    };
    one.number.of() == other.number.of() && sorted(one) == sorted(other)
}

/// Why the whole run did not pass: scenarios in order, then shards.
fn causes(
    recordings: &[ShardRecording],
    blocks: &[(&ShardRecording, &Block)],
    whole: Option<&Shard>,
) -> Vec<String> {
    let mut causes = Vec::new();
    for (recording, block) in blocks {
        match block.outcome() {
            Some(outcome) => causes.extend(outcome.cause_of(&block.name)),
            // Why a shard did not come to it is told once, below.
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

/// What no shard ran, unless the shard itself says why.
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

/// The title of the whole run: as `lab run` gives it one, unless all recordings have the same.
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
