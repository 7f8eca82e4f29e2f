//! Reports registry errors to the user of the run.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use lab_model::{
    events::{EventKind, Recorder, Subject},
    visible,
};

/// The maximum number of recorded messages. A guest can make each request fail in another way.
const MOST: usize = 200;
/// The longest message, in characters.
const LONGEST: usize = 600;

/// Reports each message only once, because clients repeat failed requests. Cloning is cheap; all clones
/// share their state.
#[derive(Clone)]
pub(super) struct Complaints {
    recorder: Recorder,
    said: Arc<Mutex<BTreeSet<String>>>,
}

impl Complaints {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, said: Arc::default() }
    }

    /// Records a message in the event stream of the run.
    pub(super) fn tell(&self, what: &str) {
        let mut text = format!("image registry: {}", visible(what, LONGEST));
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() > MOST {
            return;
        }
        if said.len() == MOST {
            text = format!("image registry: more than {MOST} different complaints; no more are recorded");
        }
        if said.insert(text.clone()) {
            self.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaints_of_one_run_are_bounded() {
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        let complaints = Complaints::new(recorder);
        for n in 0..1500 {
            complaints.tell(&format!("{n} {}", "x".repeat(60_000)));
        }
        let events: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        assert_eq!(events.len(), MOST + 1);
        let bytes: usize =
            events.iter().map(|event| serde_json::to_string(event).map_or(0, |e| e.len())).sum();
        assert!(bytes < MOST * (LONGEST + 200), "{bytes}");
    }
}
