//! The producer side of the event stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_channel::mpsc;

use super::event::{Event, EventKind, Subject};
use crate::node::NodeName;

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

/// What a guest may add to a recording, in bytes: the lines of each console, the changes of each node's layers, the Event
/// objects of the cluster, and all notes.
const CONSOLE_LIMIT: usize = 8 << 20;
const LAYERS_LIMIT: usize = 1 << 20;
const KUBERNETES_LIMIT: usize = 4 << 20;
const NOTES_LIMIT: usize = 4 << 20;
/// The size of an event without its texts, in bytes.
const FRAME: usize = 120;

/// A source of events that a guest can make without end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Flood {
    Console(NodeName),
    Layers(NodeName),
    Kubernetes,
    Notes,
}

impl Flood {
    /// The source of an event with the size of its texts; `None` for events that the lab alone makes.
    fn of(kind: &EventKind) -> Option<(Self, usize)> {
        match kind {
            EventKind::Console { node, line } => Some((Self::Console(node.clone()), line.len())),
            EventKind::LayerChanged { node, detail, .. } => Some((Self::Layers(node.clone()), detail.len())),
            EventKind::KubernetesEvent { object, reason, message, .. } => {
                Some((Self::Kubernetes, object.len() + reason.len() + message.len()))
            }
            EventKind::Note { text, .. } => Some((Self::Notes, text.len())),
            _ => None,
        }
    }

    fn limit(&self) -> usize {
        match self {
            Self::Console(_) => CONSOLE_LIMIT,
            Self::Layers(_) => LAYERS_LIMIT,
            Self::Kubernetes => KUBERNETES_LIMIT,
            Self::Notes => NOTES_LIMIT,
        }
    }

    /// The note at the end of what is recorded.
    fn last_note(self) -> EventKind {
        let (subject, what) = match self {
            Self::Console(node) => {
                (Subject::Node(node), "lines of its console; console.log has more of them")
            }
            Self::Layers(node) => (Subject::Node(node), "changes of its layers"),
            Self::Kubernetes => (Subject::Cluster, "Event objects of Kubernetes"),
            Self::Notes => (Subject::Cluster, "notes"),
        };
        let text = format!("the recording takes no more {what}: there are too many");
        EventKind::Note { subject, text }
    }
}

#[derive(Default)]
struct State {
    /// The recorded bytes of each source.
    spent: HashMap<Flood, usize>,
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

    /// Records an event with the current time. Its texts may be foreign: they are made visible and bounded first.
    pub fn record(&self, kind: EventKind) {
        let kind = kind.made_visible();
        let mut state = self.lock();
        let kind = match Flood::of(&kind) {
            None => kind,
            Some((source, size)) => {
                let limit = source.limit();
                let spent = state.spent.entry(source.clone()).or_default();
                if *spent > limit {
                    return;
                }
                *spent += size + FRAME;
                if *spent > limit { source.last_note() } else { kind }
            }
        };
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
    fn a_guest_that_floods_its_console_does_not_fill_the_recording_and_hides_no_other() {
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        let line = |node: &str, line: &str| EventKind::Console {
            node: node.parse().expect("name"),
            line: line.to_owned(),
        };
        for _ in 0..200_000 {
            recorder.record(line("node-1", ""));
        }
        recorder.record(line("node-2", "heard"));
        recorder.record(note("told"));
        let events: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        let bytes: usize =
            events.iter().map(|event| serde_json::to_string(event).map_or(0, |e| e.len())).sum();
        assert!(bytes < CONSOLE_LIMIT + (1 << 20), "{bytes}");
        let [.., last, heard, told] = events.as_slice() else { panic!("{} events", events.len()) };
        let EventKind::Note { text, .. } = &last.kind else { panic!("{last:?}") };
        assert!(text.contains("no more lines of its console"), "{text}");
        assert_eq!((&heard.kind, &told.kind), (&line("node-2", "heard"), &note("told")));
    }

    #[test]
    fn events_survive_json() {
        let event = Event { seq: 7, at: Duration::from_micros(1_500_001), kind: note("x") };
        let text = serde_json::to_string(&event).expect("serialize");
        assert_eq!(text, r#"{"seq":7,"t":1.500001,"event":"note","subject":"cluster","text":"x"}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).expect("parse"), event);
    }
}
