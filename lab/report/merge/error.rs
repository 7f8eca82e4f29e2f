//! Recordings that cannot be joined.

use std::{io, path::PathBuf, time::Duration};

use lab_model::events::FORMAT;

/// Why recordings are not joined.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// No recording was given.
    #[error("there is nothing to join; give the run directories or events.jsonl of the shards")]
    Nothing,
    /// A recording that cannot be read.
    #[error("read the recording {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A recording in which no run begins.
    #[error("{from} is not the recording of a run: its first event is not the start of one")]
    NoStart {
        /// Which recording.
        from: String,
    },
    /// A recording in which more than one run begins.
    #[error("{from} holds more than one run: a run begins at its event {at}; give each recording by itself")]
    SecondStart {
        /// Which recording.
        from: String,
        /// The number of the second start.
        at: u64,
    },
    /// A time that no run takes.
    #[error("{from} is damaged: its event {at} is {} days after its start", .after.as_secs() / (24 * 3600))]
    Time {
        /// Which recording.
        from: String,
        /// The event's number.
        at: u64,
        /// When it claims to have happened.
        after: Duration,
    },
    /// A recording of a form that this lab does not know.
    #[error(
        "{from} was recorded by a newer lab: its events have form {format}, and this one reads up to {FORMAT}; join \
         with the lab that recorded it"
    )]
    Newer {
        /// Which recording.
        from: String,
        /// Its form.
        format: u32,
    },
    /// Recordings of several forms.
    #[error(
        "{first} and {second} were recorded by different labs: their events have forms {first_format} and \
         {second_format}; run all shards with one version of the lab"
    )]
    Formats {
        /// A recording.
        first: String,
        /// Its form.
        first_format: u32,
        /// Another recording.
        second: String,
        /// Its form.
        second_format: u32,
    },
    /// The same run or shard is given twice.
    #[error("{first} and {second} are both {what}; leave one of them out")]
    Twice {
        /// A recording.
        first: String,
        /// Another recording.
        second: String,
        /// What both are.
        what: String,
    },
    /// Shards of several runs, or shards and a whole run.
    #[error("{first} is {first_is} and {second} is {second_is}: they are not parts of one run")]
    OtherRun {
        /// A recording.
        first: String,
        /// What it is a part of.
        first_is: String,
        /// Another recording.
        second: String,
        /// What that is a part of.
        second_is: String,
    },
}
