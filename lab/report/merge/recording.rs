//! One recording, split by scenario.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use lab_model::events::{Event, EventKind, FORMAT, Outcome, Shard};

use super::error::MergeError;
use crate::json_lines::{Room, read_within};

/// The file name of the recording in a run directory.
pub(super) const FILE: &str = "events.jsonl";

/// Far longer than any run. Later times are from a damaged file, and could overflow an addition.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The recorded events of a run or of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardRecording {
    /// The label for people: the path.
    pub(super) from: String,
    pub(super) run: String,
    pub(super) title: String,
    pub(super) wall: jiff::Timestamp,
    pub(super) format: u32,
    pub(super) shard: Option<Shard>,
    /// The events before the first scenario.
    pub(super) before: Vec<Event>,
    pub(super) scenarios: Vec<Block>,
    /// The overall verdict; `None` if the recording breaks off.
    pub(super) ended: Option<Outcome>,
    /// The time of the last event since the start of the recording.
    pub(super) last: Duration,
}

/// The recorded events of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub name: String,
    pub events: Vec<Event>,
}

impl ShardRecording {
    /// Reads the recordings in run directories, or recording files. If a recording breaks off within a line, the part
    /// before that line is used. Together they must not be larger than a recording may be.
    ///
    /// # Errors
    /// Fails if a recording cannot be read, or is not the recording of one run.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>, MergeError> {
        let mut room = Room::of_one_run();
        paths.iter().map(|path| Self::read(path, &mut room)).collect()
    }

    fn read(path: &Path, room: &mut Room) -> Result<Self, MergeError> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let events = read_within(&file, room).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                let said = format!("{source}; give a run directory, or the {FILE} of one");
                MergeError::Read { path: file, source: io::Error::new(io::ErrorKind::NotFound, said) }
            }
            _ => MergeError::Read { path: file, source },
        })?;
        Self::of(path.display().to_string(), events)
    }

    /// Splits the events of a recording; `from` is the label for people.
    ///
    /// # Errors
    /// Fails if the events are not those of one run, or if the format is not supported.
    pub fn of(from: String, events: Vec<Event>) -> Result<Self, MergeError> {
        let mut events = events.into_iter();
        let Some(EventKind::RunStarted { run, title, wall, format, shard }) =
            events.next().map(|event| event.kind)
        else {
            return Err(MergeError::NoStart { from });
        };
        if format > FORMAT {
            return Err(MergeError::Newer { from, format });
        }
        let (before, scenarios, last) = (Vec::new(), Vec::new(), Duration::ZERO);
        let mut recording =
            Self { from, run, title, wall, format, shard, before, scenarios, ended: None, last };
        for event in events {
            if event.at > LONGEST {
                return Err(MergeError::Time { from: recording.from, at: event.seq, after: event.at });
            }
            recording.last = recording.last.max(event.at);
            match &event.kind {
                EventKind::RunStarted { .. } => {
                    return Err(MergeError::SecondStart { from: recording.from, at: event.seq });
                }
                EventKind::RunFinished { outcome } => recording.ended = Some(outcome.clone()),
                EventKind::ScenarioStarted { scenario, .. } => {
                    recording.scenarios.push(Block { name: scenario.clone(), events: vec![event] });
                }
                _ => match recording.scenarios.last_mut() {
                    Some(block) => block.events.push(event),
                    None => recording.before.push(event),
                },
            }
        }
        Ok(recording)
    }

    /// The label in a verdict.
    pub(super) fn label(&self) -> String {
        match &self.shard {
            Some(shard) => format!("shard {}", shard.number),
            None => format!("shard {}", self.run),
        }
    }

    /// The run or shard of the recording.
    pub(super) fn kind(&self) -> String {
        match &self.shard {
            Some(shard) => format!("shard {} of {}", shard.number, shard.of_scenarios.join(", ")),
            None => "a run by itself".to_owned(),
        }
    }
}

impl Block {
    /// The scenario's verdict.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.events.iter().rev().find_map(|event| match &event.kind {
            EventKind::ScenarioFinished { outcome, .. } => Some(outcome),
            _ => None,
        })
    }
}
