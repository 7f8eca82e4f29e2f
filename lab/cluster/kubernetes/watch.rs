//! Watching objects of the Kubernetes API.

use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::watcher;

/// Pause before a broken watch is re-established, which asking it again does.
const AGAIN: Duration = Duration::from_millis(300);

/// The next object that a watch shows: one that was there when it began, a new or a changed one.
/// Whoever asks bounds the wait.
pub(super) async fn next_shown<K>(
    changes: &mut (impl Stream<Item = watcher::Result<watcher::Event<K>>> + Unpin),
) -> K {
    loop {
        match changes.next().await {
            Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => return object,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => tokio::time::sleep(AGAIN).await,
        }
    }
}
