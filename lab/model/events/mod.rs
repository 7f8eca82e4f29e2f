//! The typed event stream of a run. All displays and records consume this stream.
//!
//! Producers record events with a [`Recorder`]; consumers subscribe. Events are plain data with monotonic
//! timestamps, so the lab can replay a recorded stream.

mod event;
mod examples;
mod foreign;
mod recorder;
mod shard;
mod turned_away;

pub use event::{
    ChainLink, Event, EventKind, FORMAT, Layer, LayerState, Outcome, Planned, PlannedImage, Step, Subject,
    Target,
};
#[doc(hidden)]
pub use examples::every_kind;
pub use recorder::{Recorder, Subscription};
pub use shard::{InvalidShard, Shard, ShardNumber};
pub use turned_away::TurnedAway;
