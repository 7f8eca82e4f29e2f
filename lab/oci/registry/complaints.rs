//! What goes wrong in answering, for the person whose run it is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use lab_model::events::{EventKind, Recorder, Subject};

/// Says each thing once: clients ask again and again for what they do not get. Cheap to clone; all
/// clones are one.
#[derive(Clone)]
pub(super) struct Complaints {
    recorder: Recorder,
    said: Arc<Mutex<BTreeSet<String>>>,
}

impl Complaints {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, said: Arc::default() }
    }

    /// Tells the person, through the run's event stream.
    pub(super) fn tell(&self, what: &str) {
        let text = format!("image registry: {what}");
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            self.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
        }
    }
}
