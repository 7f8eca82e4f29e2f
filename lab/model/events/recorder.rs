//! The producer side of the event stream.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_channel::mpsc;

use super::event::{Event, EventKind};

/// Accepts events from any thread, adds a sequence number and a timestamp, and sends them to every
/// subscriber. Cloning is cheap; all clones write to the same stream. Recording never blocks and never
/// fails: the recorder drops closed subscriptions.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

/// The consumer side. Receives every event after the subscription, in order and without loss. The stream
/// ends (yields `None`) after all [`Recorder`] clones are dropped or after [`Recorder::close`].
pub struct Subscription(mpsc::UnboundedReceiver<Event>);

impl Subscription {
    /// Waits for the next event. Returns `None` at the end of the stream.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await.ok()
    }

    /// Returns the next event without waiting.
    ///
    /// # Errors
    /// Returns an error if there is no event yet, or if the stream has ended.
    pub fn try_recv(&mut self) -> Result<Event, mpsc::TryRecvError> {
        self.0.try_recv()
    }

    /// Waits for the next event, then adds it and all available events to `batch`, up to `most` events.
    /// Returns the number of events; 0 at the end of the stream.
    pub async fn recv_many(&mut self, batch: &mut Vec<Event>, most: usize) -> usize {
        let before = batch.len();
        batch.extend(self.recv().await);
        while batch.len() > before
            && batch.len() - before < most
            && let Ok(event) = self.try_recv()
        {
            batch.push(event);
        }
        batch.len() - before
    }
}

struct Shared {
    started: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_seq: u64,
    subscribers: Vec<mpsc::UnboundedSender<Event>>,
}

impl Recorder {
    /// Creates a stream. Its clock starts immediately.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { started: Instant::now(), state: Mutex::default() }) }
    }

    /// Adds a consumer.
    pub fn subscribe(&self) -> Subscription {
        let (tx, rx) = mpsc::unbounded();
        self.lock().subscribers.push(tx);
        Subscription(rx)
    }

    /// Records an event with the current time.
    pub fn record(&self, kind: EventKind) {
        let mut state = self.lock();
        let event = Event { seq: state.next_seq, at: self.shared.started.elapsed(), kind };
        state.next_seq += 1;
        state.subscribers.retain(|subscriber| subscriber.unbounded_send(event.clone()).is_ok());
    }

    /// Returns the monotonic time since the start of the stream.
    pub fn elapsed(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Ends the stream for all subscribers, for example so that sinks can write their last lines.
    pub fn close(&self) {
        self.lock().subscribers.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::events::Subject;

    fn note(text: &str) -> EventKind {
        EventKind::Note { subject: Subject::Cluster, text: text.into() }
    }

    #[test]
    fn every_subscriber_gets_every_event_in_order_and_then_the_end() {
        let recorder = Recorder::new();
        let mut first = recorder.subscribe();
        let mut second = recorder.subscribe();
        for n in 0..5 {
            recorder.record(note(&n.to_string()));
        }
        recorder.close();
        for subscription in [&mut first, &mut second] {
            for n in 0..5 {
                let event = block_on(subscription.recv()).expect("event");
                assert_eq!((event.seq, event.kind), (n, note(&n.to_string())));
            }
            assert_eq!(block_on(subscription.recv()), None);
        }
    }

    #[test]
    fn events_survive_json() {
        let event = Event { seq: 7, at: Duration::from_micros(1_500_001), kind: note("x") };
        let text = serde_json::to_string(&event).expect("serialize");
        assert_eq!(text, r#"{"seq":7,"t":1.500001,"event":"note","subject":"cluster","text":"x"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).expect("parse"), event);
    }
}
