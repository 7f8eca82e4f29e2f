//! Watches with a constant retry interval.

use std::{fmt::Debug, pin::Pin, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use serde::de::DeserializeOwned;

/// Delay before a broken watch is re-established. It is constant, because all callers have a time limit.
const AGAIN: Duration = Duration::from_millis(300);

/// Watches objects. The stream starts with the existing objects, continues with new and changed objects, and
/// never ends: a broken watch is re-established.
pub(super) fn shown<K>(api: Api<K>, of: watcher::Config) -> Pin<Box<dyn Stream<Item = K> + Send>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = watcher(api, of).backoff(Steady);
    Box::pin(events.filter_map(|event| async {
        match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => Some(object),
            Ok(_) | Err(_) => None,
        }
    }))
}

/// A back-off with the constant delay [`AGAIN`].
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(AGAIN)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}
