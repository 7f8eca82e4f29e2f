//! Recordings that cannot be joined.

use std::{io, path::PathBuf, time::Duration};

use lab_model::events::FORMAT;

/// The reason why recordings cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// No recording was given.
    #[error("there is nothing to join; give the run directories or events.jsonl of the shards")]
    Nothing,
    /// The recording cannot be read.
    #[error("read the recording {}: {source}", path.display())]
    Read {
        path: PathBuf,
        /// The error of the operating system, or of the parser.
        source: io::Error,
    },
    /// The recording does not contain the start of a run.
    #[error("{from} is not the recording of a run: its first event is not the start of one")]
    NoStart {
        /// The label of the recording.
        from: String,
    },
    /// The recording contains more than one start of a run.
    #[error("{from} holds more than one run: a run begins at its event {at}; give each recording by itself")]
    SecondStart {
        /// The label of the recording.
        from: String,
        /// The number of the second start event.
        at: u64,
    },
    /// The time of an event is out of range.
    #[error("{from} is damaged: its event {at} is {} days after its start", .after.as_secs() / (24 * 3600))]
    Time {
        /// The label of the recording.
        from: String,
        /// The number of the event.
        at: u64,
        /// The time of the event.
        after: Duration,
    },
    /// The recording has a format that this lab does not support.
    #[error(
        "{from} was recorded by a newer lab: its events have form {format}, and this one reads up to {FORMAT}; join \
         with the lab that recorded it"
    )]
    Newer {
        /// The label of the recording.
        from: String,
        format: u32,
    },
    /// The recordings have different formats.
    #[error(
        "{first} and {second} were recorded by different labs: their events have forms {first_format} and \
         {second_format}; run all shards with one version of the lab"
    )]
    Formats {
        /// The label of one recording.
        first: String,
        first_format: u32,
        /// The label of another recording.
        second: String,
        second_format: u32,
    },
    /// The same run or shard was given twice.
    #[error("{first} and {second} are both {what}; leave one of them out")]
    Twice {
        /// The label of one recording.
        first: String,
        /// The label of another recording.
        second: String,
        /// The run or shard of both.
        what: String,
    },
    /// The recordings are shards of several runs, or shards and a whole run.
    #[error("{first} is {first_is} and {second} is {second_is}: they are not parts of one run")]
    OtherRun {
        /// The label of one recording.
        first: String,
        /// The run of the first recording.
        first_is: String,
        /// The label of another recording.
        second: String,
        /// The run of the second recording.
        second_is: String,
    },
}
