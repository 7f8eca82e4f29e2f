//! Reports registry errors to the user of the run.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use lab_model::events::{EventKind, Recorder, Subject};

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
        let text = format!("image registry: {what}");
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            self.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
        }
    }
}
