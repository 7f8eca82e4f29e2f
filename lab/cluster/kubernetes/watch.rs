//! Watching objects of the Kubernetes API.

use std::{fmt::Debug, pin::Pin, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use serde::de::DeserializeOwned;

/// Pause before a broken watch is established again. The waits here are bounded, so it does not grow.
const AGAIN: Duration = Duration::from_millis(300);

/// Every object that a watch shows: those that were there when it began, then new and changed ones. Endless: a watch
/// that breaks is established again.
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

/// The same pause each time.
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
