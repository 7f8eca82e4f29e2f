//! The one typed event stream of a run; every display and record is a consumer of it.
//!
//! Producers hold a [`Recorder`] and say what happened; consumers subscribe. Events are plain
//! data with monotonic timestamps, so a recorded stream can be shown again later.

mod event;
mod recorder;
mod shard;
mod turned_away;

pub use event::{
    ChainLink, Event, EventKind, FORMAT, Layer, LayerState, Outcome, Planned, PlannedImage, Step, Subject,
    Target,
};
pub use recorder::{Recorder, Subscription};
pub use shard::{InvalidShard, Shard, ShardNumber};
pub use turned_away::TurnedAway;
