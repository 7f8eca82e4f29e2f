//! Signatures of known failures: a pattern, the cause, and the fix.
//!
//! The lab's own signatures are in `signatures.yaml`; users can add files with the same format.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use lab_model::events::{Event, EventKind, Outcome, Subject};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::signature_file::{SignatureError, parse};

/// The lab's own signatures.
pub(super) const OWN: &str = include_str!("signatures.yaml");
/// The user's signature file in the working directory, which needs no flag.
pub const SIGNATURES_FILE: &str = "lab-signatures.yaml";
/// The largest signature file that is read, in bytes.
const LARGEST_FILE: u64 = 1 << 20;
/// The maximum length of a quoted line.
const QUOTED: usize = 300;

/// The text that a signature's pattern matches against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureSource {
    /// Lines of serial consoles.
    Console,
    /// Notes of the running lab.
    Note,
    /// Causes of failed steps, checks and verdicts.
    Cause,
    /// Reports of an API: Kubernetes events, and the conditions that readiness layers wait for.
    Event,
}

/// A known failure.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Unique short name.
    pub id: String,
    /// The source of the matched text.
    pub place: SignatureSource,
    /// What writes the text: the file of a program, or a folder of the lab.
    pub source: Option<String>,
    /// The pattern that identifies the failure.
    pub pattern: Regex,
    /// The cause, as one sentence.
    pub cause: String,
    pub fix: String,
    /// Another fix, for runs that do already what `fix` advises.
    pub given: Option<Given>,
    /// Further information: a file of the project, or an address.
    pub link: Option<String>,
    /// A text that matches, and a text that must not match.
    pub examples: Option<Examples>,
}

/// Texts that a signature must match and must not match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examples {
    /// A text that shows the failure.
    pub matches: String,
    /// A similar text that does not show the failure.
    pub differs: String,
}

/// A fix for runs with a certain note.
#[derive(Clone, Debug)]
pub struct Given {
    /// The pattern of a note of the lab in the same scenario.
    pub note: Regex,
    /// The fix in this case.
    pub fix: String,
}

/// The set of signatures for a run.
#[derive(Clone, Debug, Default)]
pub struct Signatures {
    all: Vec<Signature>,
}

/// A known failure that occurred in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnownFailure {
    /// The ID of the signature.
    pub id: String,
    /// The scenario; empty if the run has none.
    pub scenario: String,
    /// Whether the verdict of the scenario was green despite the failure.
    pub harmless: bool,
    /// The affected nodes, or the cluster.
    pub subjects: Vec<String>,
    /// The number of occurrences.
    pub times: usize,
    /// The first occurrence, in seconds since the start of the run.
    pub at: f64,
    /// The text of the first occurrence.
    pub seen: String,
    pub cause: String,
    pub fix: String,
    /// Further information.
    pub link: Option<String>,
}

impl Signatures {
    /// The lab's own signatures.
    ///
    /// # Panics
    /// Never panics: a test parses the file.
    pub fn own() -> Self {
        let all = parse(Path::new("signatures.yaml"), OWN).expect("the lab's own signatures are well-formed");
        Self { all }
    }

    /// The lab's own signatures, the signatures in [`SIGNATURES_FILE`] if it exists in the working
    /// directory, and the signatures in the given files. A later signature replaces an earlier
    /// signature with the same ID.
    ///
    /// # Errors
    /// Fails if a file cannot be read or is invalid. The error contains the line number.
    pub fn with_files(files: &[PathBuf]) -> Result<Self, SignatureError> {
        let mut signatures = Self::own();
        let beside = Path::new(SIGNATURES_FILE);
        let files = beside.is_file().then_some(beside).into_iter().chain(files.iter().map(PathBuf::as_path));
        for path in files {
            let text = lab_model::files::read_text_bounded(path, LARGEST_FILE)
                .map_err(|source| SignatureError::Read { path: path.to_owned(), source })?;
            signatures.extend(parse(path, &text)?);
        }
        Ok(signatures)
    }

    fn extend(&mut self, more: Vec<Signature>) {
        self.all.retain(|known| more.iter().all(|new| new.id != known.id));
        self.all.extend(more);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.all.iter()
    }

    /// The known failures in a recording, in the order of their first occurrence.
    pub fn seen_in(&self, events: &[Event]) -> Vec<KnownFailure> {
        let (mut known, mut scenario, mut first) = (Vec::<KnownFailure>::new(), String::new(), 0);
        let mut given = BTreeMap::new();
        for event in events {
            if let EventKind::ScenarioStarted { scenario: name, .. } = &event.kind {
                adapt(&mut known[first..], &given);
                scenario.clone_from(name);
                first = known.len();
                given.clear();
            }
            if let EventKind::Note { text, .. } = &event.kind {
                let said = self.all.iter().filter_map(|one| Some((one, one.given.as_ref()?)));
                let said = said.filter(|(_, given)| given.note.is_match(text));
                given.extend(said.map(|(one, given)| (one.id.as_str(), given.fix.as_str())));
            }
            // The overall verdict repeats the verdicts of the scenarios.
            if matches!(event.kind, EventKind::RunFinished { .. }) && !scenario.is_empty() {
                continue;
            }
            for (place, subject, text) in texts(&event.kind) {
                let matching = self.all.iter().filter(|one| one.place == place && one.pattern.is_match(text));
                for signature in matching {
                    note(&mut known[first..], signature, &subject).unwrap_or_else(|| {
                        known.push(signature.seen(&scenario, subject.clone(), event.at.as_secs_f64(), text));
                    });
                }
            }
            if let EventKind::ScenarioFinished { outcome, .. } = &event.kind {
                known[first..].iter_mut().for_each(|known| known.harmless = outcome.passed());
            }
        }
        adapt(&mut known[first..], &given);
        known
    }
}

/// Replaces the fixes that the scenario applies already.
fn adapt(known: &mut [KnownFailure], given: &BTreeMap<&str, &str>) {
    for known in known {
        if let Some(fix) = given.get(known.id.as_str()) {
            known.fix = (*fix).to_owned();
        }
    }
}

/// Counts a failure that already occurred in this scenario.
fn note(known: &mut [KnownFailure], signature: &Signature, subject: &str) -> Option<()> {
    let known = known.iter_mut().find(|known| known.id == signature.id)?;
    known.times += 1;
    // The cluster's verdict repeats the text of a node.
    if subject != CLUSTER && !known.subjects.iter().any(|known| known == subject) {
        known.subjects.retain(|known| known != CLUSTER);
        known.subjects.push(subject.to_owned());
    }
    Some(())
}

impl Signature {
    fn seen(&self, scenario: &str, subject: String, at: f64, text: &str) -> KnownFailure {
        KnownFailure {
            id: self.id.clone(),
            scenario: scenario.to_owned(),
            harmless: false,
            subjects: vec![subject],
            times: 1,
            at,
            seen: text.trim().chars().take(QUOTED).collect(),
            cause: self.cause.clone(),
            fix: self.fix.clone(),
            link: self.link.clone(),
        }
    }
}

impl fmt::Display for KnownFailure {
    /// One line: the failure, the affected nodes, the cause, the fix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.harmless { "known, without harm" } else { "known" };
        write!(f, "{what}: {} ({}): {}; {}", self.id, self.subjects.join(", "), self.cause, self.fix)?;
        self.link.iter().try_for_each(|link| write!(f, " [{link}]"))
    }
}

const CLUSTER: &str = "the cluster";

/// The cause of an outcome, if any.
fn cause(subject: String, outcome: &Outcome) -> Vec<(SignatureSource, String, &str)> {
    match outcome {
        Outcome::Failed { cause } => vec![(SignatureSource::Cause, subject, cause.as_str())],
        _ => Vec::new(),
    }
}

/// The texts of an event that signatures match against.
fn texts(kind: &EventKind) -> Vec<(SignatureSource, String, &str)> {
    let of = |subject: &Subject| match subject {
        Subject::Cluster => CLUSTER.to_owned(),
        Subject::Node(node) => node.to_string(),
    };
    match kind {
        EventKind::Console { node, line } => vec![(SignatureSource::Console, node.to_string(), line)],
        EventKind::Note { subject, text } => vec![(SignatureSource::Note, of(subject), text)],
        EventKind::StepFinished { subject, outcome, .. } => cause(of(subject), outcome),
        EventKind::CheckFinished { outcome, .. }
        | EventKind::ScenarioFinished { outcome, .. }
        | EventKind::RunFinished { outcome } => cause(CLUSTER.to_owned(), outcome),
        EventKind::MachineExited { node, status, expected: false } => {
            vec![(SignatureSource::Cause, node.to_string(), status)]
        }
        EventKind::LayerChanged { node, detail, .. } => {
            vec![(SignatureSource::Event, node.to_string(), detail)]
        }
        EventKind::KubernetesEvent { subject, reason, message, .. } => {
            vec![
                (SignatureSource::Event, of(subject), reason),
                (SignatureSource::Event, of(subject), message),
            ]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use lab_model::node::NodeName;

    #[test]
    fn every_own_signature_matches_its_example_and_not_the_one_that_differs() {
        let own = Signatures::own();
        assert!(own.all.len() >= 15);
        for signature in own.iter() {
            let examples = signature.examples.as_ref().expect(&signature.id);
            assert!(signature.pattern.is_match(&examples.matches), "{}", signature.id);
            assert!(!signature.pattern.is_match(&examples.differs), "{}", signature.id);
            let source = signature.source.as_deref().expect(&signature.id);
            let file = signature.link.as_deref().filter(|link| link.starts_with("docs/"));
            let file = file.and_then(|link| link.split('#').next());
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            for folder in source.split([' ', ',']).filter(|word| word.starts_with("lab/")) {
                assert!(root.join(folder).is_dir(), "{}: {folder}", signature.id);
            }
            assert!(file.is_none_or(|file| root.join(file).is_file()), "{}: {file:?}", signature.id);
        }
    }

    #[test]
    fn an_example_shows_its_own_failure_and_no_other_of_its_place() {
        let own = Signatures::own();
        for signature in own.iter() {
            let Some(Examples { matches, .. }) = &signature.examples else { continue };
            let same_place = own.iter().filter(|other| other.place == signature.place);
            let seen: Vec<_> = same_place
                .filter(|other| other.pattern.is_match(matches))
                .map(|other| other.id.as_str())
                .collect();
            assert_eq!(seen, [signature.id.as_str()], "{matches}");
        }
    }

    fn events(kinds: Vec<EventKind>) -> Vec<Event> {
        (0..).zip(kinds).map(|(seq, kind)| Event { seq, at: Duration::from_secs(seq), kind }).collect()
    }

    /// What a node says on its way is no known failure.
    #[test]
    fn no_line_of_a_recorded_console_is_a_known_failure() {
        let console = include_str!("../../tests/recorded/talos-v1.13.9/console.log");
        let node: NodeName = "cp-1".parse().expect("name");
        let line = |line: &str| EventKind::Console { node: node.clone(), line: line.into() };
        let known = Signatures::own().seen_in(&events(console.lines().map(line).collect()));
        assert!(known.is_empty(), "{known:?}");
    }

    #[test]
    fn a_hint_does_not_advise_what_the_run_does_already() {
        let probe = || EventKind::KubernetesEvent {
            subject: Subject::Cluster,
            warning: true,
            object: "Pod/kube-system/kube-scheduler-cp-1".into(),
            reason: "Unhealthy".into(),
            message:
                "Liveness probe failed: Get \"https://127.0.0.1:10259/healthz\": context deadline exceeded"
                    .into(),
            count: 1,
        };
        let began =
            |name: &str| EventKind::ScenarioStarted { scenario: name.into(), question: String::new() };
        let order = EventKind::Note {
            subject: Subject::Cluster,
            text: "workers boot first, and form once the control plane is Ready, 2 at a time: 3 nodes".into(),
        };
        let seen = Signatures::own().seen_in(&events(vec![began("a"), order, probe(), began("b"), probe()]));
        let fixes: Vec<_> = seen.iter().map(|known| known.fix.contains("(startOrder)")).collect();
        assert_eq!(fixes, [false, true], "{seen:?}");
    }

    #[test]
    fn what_is_seen_again_is_counted_and_what_a_green_scenario_shows_did_no_harm() {
        let console = |node: &str| EventKind::Console {
            node: NodeName::new(node).expect("name"),
            line: "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)".into(),
        };
        let began =
            |name: &str| EventKind::ScenarioStarted { scenario: name.into(), question: String::new() };
        let ended = |name: &str, outcome| EventKind::ScenarioFinished { scenario: name.into(), outcome };
        let red = Outcome::Failed { cause: "panic".into() };
        let seen = Signatures::own().seen_in(&events(vec![
            began("green"),
            console("cp-1"),
            ended("green", Outcome::Passed),
            began("red"),
            console("w-1"),
            console("w-2"),
            console("w-2"),
            ended("red", red),
            EventKind::RunFinished { outcome: Outcome::Failed { cause: "exit: signal 9 (SIGKILL)".into() } },
        ]));
        let told: Vec<_> =
            seen.iter().map(|k| (k.scenario.as_str(), k.harmless, k.times, k.subjects.join(" "))).collect();
        assert_eq!(told, [("green", true, 1, "cp-1".to_owned()), ("red", false, 3, "w-1 w-2".to_owned())]);
        assert!(seen[1].to_string().starts_with("known: no-root (w-1, w-2): "), "{}", seen[1]);
    }
}
