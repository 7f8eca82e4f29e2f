//! The recordings of shards, joined.
#![allow(dead_code)]

#[path = "../lab/merge/error.rs"]
mod error;
#[path = "../lab/merge/join.rs"]
mod join;
#[path = "../lab/merge/recording.rs"]
mod recording;

pub use error::MergeError;
pub use join::{Merged, merge};
pub use recording::ShardRecording;
