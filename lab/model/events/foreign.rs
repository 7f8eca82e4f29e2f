//! Foreign text in events. The recorder makes every text visible before anything shows or stores the event.

use super::event::{ChainLink, EventKind, Outcome, Target};
use crate::foreign::{LONGEST_TEXT, visible};

/// The maximum number of items in a list of texts.
const LONGEST_LIST: usize = 1000;
/// The longest list as text in all, in bytes: the size of one event stays bounded too.
const LONGEST_LISTS: usize = 256 * 1024;

impl EventKind {
    /// Makes every text of the event visible, one line, and bounded.
    #[must_use]
    pub fn made_visible(mut self) -> Self {
        self.each_text(&mut |text| {
            if text.len() > LONGEST_TEXT || text.contains(crate::foreign::is_hidden) {
                *text = visible(text, LONGEST_TEXT);
            }
        });
        self
    }

    fn each_text(&mut self, change: &mut dyn FnMut(&mut String)) {
        match self {
            Self::RunStarted { run, title, .. } => [run, title].into_iter().for_each(change),
            Self::Agenda { scenarios } => {
                scenarios.truncate(LONGEST_LIST);
                for planned in scenarios {
                    change(&mut planned.scenario);
                    list(&mut planned.checks, change);
                }
            }
            Self::ScenarioStarted { scenario, question } => [scenario, question].into_iter().for_each(change),
            Self::HostMeasured { accelerator, qemu, .. } => [accelerator, qemu].into_iter().for_each(change),
            Self::ClusterStarts { reason, .. } => change(reason),
            Self::HostSeen { lab, os, arch, .. } => [lab, os, arch].into_iter().for_each(change),
            Self::NetworkPlanned { lan, tailnet, .. } => {
                change(lan);
                tailnet.iter_mut().for_each(change);
            }
            Self::NodePlanned { image, .. } => {
                if let Some(image) = image {
                    change(&mut image.source);
                    list(&mut image.extensions, change);
                }
            }
            Self::StepFinished { outcome, .. } | Self::RunFinished { outcome } => of_outcome(outcome, change),
            Self::Console { line, .. } => change(line),
            Self::KubernetesEvent { object, reason, message, .. } => {
                [object, reason, message].into_iter().for_each(change);
            }
            Self::NetworkAsked { from, target, address, outcome } => {
                change(from);
                change(address);
                match target {
                    Target::PodOn(node) => change(node),
                    Target::Service | Target::ServiceName => {}
                }
                of_outcome(outcome, change);
            }
            Self::RouteFollowed { gateway, prefix, advertised, approved, accepted, reached, .. } => {
                [gateway, prefix].into_iter().for_each(&mut *change);
                for link in [advertised, approved, accepted, reached] {
                    match link {
                        ChainLink::Broken(seen) => change(seen),
                        ChainLink::Unknown | ChainLink::Holds => {}
                    }
                }
            }
            Self::MachineExited { status, .. } => change(status),
            Self::LayerChanged { detail, .. } => change(detail),
            Self::CheckStarted { check, title } => [check, title].into_iter().for_each(change),
            Self::CheckFinished { check, title, outcome, evidence } => {
                [check, title].into_iter().for_each(&mut *change);
                of_outcome(outcome, change);
                list(evidence, change);
            }
            Self::Note { text, .. } => change(text),
            Self::ScenarioFinished { scenario, outcome } => {
                change(scenario);
                of_outcome(outcome, change);
            }
            Self::StepStarted { .. } | Self::ResourcesSampled { .. } => {}
        }
    }
}

fn of_outcome(outcome: &mut Outcome, change: &mut dyn FnMut(&mut String)) {
    match outcome {
        Outcome::Passed => {}
        Outcome::Failed { cause } | Outcome::NotRun { cause } => change(cause),
    }
}

fn list(texts: &mut Vec<String>, change: &mut dyn FnMut(&mut String)) {
    texts.iter_mut().take(LONGEST_LIST).for_each(&mut *change);
    let mut bytes = 0;
    let fitting = texts.iter().take(LONGEST_LIST).take_while(|text| {
        bytes += text.len();
        bytes <= LONGEST_LISTS
    });
    let fitting = fitting.count();
    if fitting < texts.len() {
        let more = texts.len() - fitting;
        texts.truncate(fitting);
        texts.push(format!("… {more} more"));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        events::{Event, Recorder, every_kind},
        foreign::is_hidden,
    };

    /// The texts of an event, from its JSON, so that a text that `each_text` forgets is found.
    fn texts(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::String(text) => found.push(text.clone()),
            serde_json::Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
            serde_json::Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
            _ => {}
        }
    }

    fn recorded(kinds: Vec<EventKind>) -> Vec<Event> {
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        kinds.into_iter().for_each(|kind| recorder.record(kind));
        std::iter::from_fn(|| events.try_recv().ok()).collect()
    }

    proptest! {
        #[test]
        fn no_recorded_text_of_any_event_hides_anything(text in any::<String>(), escape in "[\\x00-\\x1f\u{202a}-\u{202e}]") {
            for event in recorded(every_kind(&format!("{text}{escape}::error::"))) {
                let mut found = Vec::new();
                texts(&serde_json::to_value(&event).expect("json"), &mut found);
                prop_assert!(!found.iter().any(|text| text.contains(is_hidden)), "{event:?}");
            }
        }
    }

    #[test]
    fn no_event_is_larger_than_its_limit() {
        let long = "x\n".repeat(1 << 20);
        let many = EventKind::CheckFinished {
            check: "a".into(),
            title: "b".into(),
            outcome: Outcome::Passed,
            evidence: vec!["y".repeat(LONGEST_TEXT); 5000],
        };
        for event in recorded(every_kind(&long).into_iter().chain([many]).collect()) {
            let size = serde_json::to_string(&event).expect("json").len();
            assert!(size < LONGEST_LISTS + 16 * LONGEST_TEXT, "{size} bytes");
        }
    }
}
