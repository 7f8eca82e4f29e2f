//! Several recordings of the shards of one run, joined into one recording.
//!
//! A matrix that outgrows one host is run in parts (`lab run --shard 1/4`), each of which leaves its
//! own event stream. What reads a recording reads the joined one as if one host had run everything:
//! the scenarios in the order of the whole run, and one verdict, in which a part that is missing or
//! broke off counts as failed.

mod error;
mod join;
mod recording;
#[cfg(test)]
mod tests;
mod written;

pub use error::MergeError;
pub use join::{Merged, MergedShard, merge};
pub use recording::ShardRecording;
pub use written::WriteError;
