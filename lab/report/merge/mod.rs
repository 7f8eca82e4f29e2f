//! Joins the recordings of the shards of one run into one recording.
//!
//! A matrix that is too large for one host runs in parts (`lab run --shard 1/4`). Each part leaves
//! its own event stream. Readers treat the joined recording like a run on one host: the scenarios are
//! in the order of the whole run, and there is one verdict. A missing or incomplete part counts as
//! failed.

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
