//! Failures that are known by what is seen of them: a pattern, the cause, the way out.
//!
//! The lab's own are in `signatures.yaml`; users add files of the same form.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::{
    events::{Event, Happening, Outcome, Subject},
    words::choice,
};

/// The lab's own signatures.
const OWN: &str = include_str!("signatures.yaml");
/// The users' file in the working directory that needs no flag.
pub const SIGNATURES_FILE: &str = "lab-signatures.yaml";
/// How much of a line is quoted.
const QUOTED: usize = 300;

/// Where a signature's pattern is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Lines of serial consoles.
    Console,
    /// What the lab tells while it runs.
    Note,
    /// Causes of failed steps, checks and verdicts.
    Cause,
    /// What an API reported: Kubernetes events, and what readiness layers wait for.
    Event,
}

/// One known failure.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Its short name, unique.
    pub id: String,
    /// Where it is looked for.
    pub place: Place,
    /// What is seen of it.
    pub pattern: Regex,
    /// What has happened, one sentence.
    pub cause: String,
    /// What to do.
    pub fix: String,
    /// Where more is said: a file of the project, or an address.
    pub link: Option<String>,
    /// A text that shows it, and one that must not be taken for it.
    pub examples: Option<Examples>,
}

/// What a signature must and must not match.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examples {
    /// Shows the failure.
    pub matches: String,
    /// Looks like it, and is not.
    pub differs: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: Spanned<String>,
    #[serde(rename = "where")]
    place: Place,
    pattern: Spanned<String>,
    cause: String,
    fix: String,
    link: Option<String>,
    examples: Option<Spanned<Examples>>,
}

/// A signature file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It cannot be read.
    #[error("read the signatures of {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What, and what to write instead.
        message: String,
    },
}

/// All signatures that a run is compared with.
#[derive(Clone, Debug, Default)]
pub struct Signatures {
    all: Vec<Signature>,
}

/// A known failure that was seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnownFailure {
    /// The signature.
    pub id: String,
    /// In which scenario; empty when the run has none.
    pub scenario: String,
    /// Whether that scenario came to a green verdict all the same.
    pub harmless: bool,
    /// Whose it is: nodes, or the cluster.
    pub subjects: Vec<String>,
    /// How often it was seen.
    pub times: usize,
    /// When first, seconds since the run began.
    pub at: f64,
    /// The text in which it was seen first.
    pub seen: String,
    /// What has happened.
    pub cause: String,
    /// What to do.
    pub fix: String,
    /// Where more is said.
    pub link: Option<String>,
}

impl Signatures {
    /// The lab's own.
    ///
    /// # Panics
    /// Never: a test reads the file.
    pub fn own() -> Self {
        let all = parse(Path::new("signatures.yaml"), OWN).expect("the lab's own signatures are well-formed");
        Self { all }
    }

    /// The lab's own, those of [`SIGNATURES_FILE`] if it exists in the working directory, and those
    /// of the given files. One with the id of an earlier one takes its place.
    ///
    /// # Errors
    /// When a file cannot be read or is wrong, with its line.
    pub fn with_files(files: &[PathBuf]) -> Result<Self, SignatureError> {
        let mut signatures = Self::own();
        let beside = Path::new(SIGNATURES_FILE);
        let files = beside.is_file().then_some(beside).into_iter().chain(files.iter().map(PathBuf::as_path));
        for path in files {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SignatureError::Read { path: path.to_owned(), source })?;
            signatures.extend(parse(path, &text)?);
        }
        Ok(signatures)
    }

    fn extend(&mut self, more: Vec<Signature>) {
        self.all.retain(|known| more.iter().all(|new| new.id != known.id));
        self.all.extend(more);
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.all.iter()
    }

    /// What of a recording is known, in the order in which it was seen first.
    pub fn seen_in(&self, events: &[Event]) -> Vec<KnownFailure> {
        let (mut known, mut scenario, mut first) = (Vec::<KnownFailure>::new(), String::new(), 0);
        for event in events {
            if let Happening::ScenarioStarted { scenario: name, .. } = &event.happening {
                scenario.clone_from(name);
                first = known.len();
            }
            // The verdict over all repeats what the scenarios' said.
            if matches!(event.happening, Happening::RunFinished { .. }) && !scenario.is_empty() {
                continue;
            }
            for (place, subject, text) in texts(&event.happening) {
                let matching = self.all.iter().filter(|one| one.place == place && one.pattern.is_match(text));
                for signature in matching {
                    note(&mut known[first..], signature, &subject).unwrap_or_else(|| {
                        known.push(signature.seen(&scenario, subject.clone(), event.at.as_secs_f64(), text));
                    });
                }
            }
            if let Happening::ScenarioFinished { outcome, .. } = &event.happening {
                known[first..].iter_mut().for_each(|known| known.harmless = outcome.passed());
            }
        }
        known
    }
}

/// Counts what this scenario has shown before.
fn note(known: &mut [KnownFailure], signature: &Signature, subject: &str) -> Option<()> {
    let known = known.iter_mut().find(|known| known.id == signature.id)?;
    known.times += 1;
    // The cluster's verdict repeats what a node said.
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
    /// One line: what was known, whose it is, the cause, the way out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.harmless { "known, without harm" } else { "known" };
        write!(f, "{what}: {} ({}): {}; {}", self.id, self.subjects.join(", "), self.cause, self.fix)?;
        self.link.iter().try_for_each(|link| write!(f, " [{link}]"))
    }
}

const CLUSTER: &str = "the cluster";

/// The cause in an outcome, if it has one.
fn cause(subject: String, outcome: &Outcome) -> Vec<(Place, String, &str)> {
    match outcome {
        Outcome::Failed { cause } => vec![(Place::Cause, subject, cause.as_str())],
        _ => Vec::new(),
    }
}

/// The texts of an event in which signatures are looked for.
fn texts(happening: &Happening) -> Vec<(Place, String, &str)> {
    let of = |subject: &Subject| match subject {
        Subject::Cluster => CLUSTER.to_owned(),
        Subject::Node(node) => node.to_string(),
    };
    match happening {
        Happening::Console { node, line } => vec![(Place::Console, node.to_string(), line)],
        Happening::Note { subject, text } => vec![(Place::Note, of(subject), text)],
        Happening::StepFinished { subject, outcome, .. } => cause(of(subject), outcome),
        Happening::CheckFinished { outcome, .. }
        | Happening::ScenarioFinished { outcome, .. }
        | Happening::RunFinished { outcome } => cause(CLUSTER.to_owned(), outcome),
        Happening::MachineExited { node, status, expected: false } => {
            vec![(Place::Cause, node.to_string(), status)]
        }
        Happening::LayerChanged { node, detail, .. } => vec![(Place::Event, node.to_string(), detail)],
        Happening::KubernetesEvent { subject, reason, message, .. } => {
            vec![(Place::Event, of(subject), reason), (Place::Event, of(subject), message)]
        }
        _ => Vec::new(),
    }
}

/// Reads signatures and tries their examples.
fn parse(path: &Path, text: &str) -> Result<Vec<Signature>, SignatureError> {
    let wrong = |line: u64, message: String| SignatureError::Wrong {
        path: path.to_owned(),
        line: line.max(1),
        message,
    };
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let raw: Vec<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        wrong(error.location().map_or(1, |place| place.line()), in_words(error))
    })?;
    let mut signatures: Vec<Signature> = Vec::new();
    for raw in raw {
        let line = raw.id.referenced.line();
        if signatures.iter().any(|known| known.id == raw.id.value) {
            return Err(wrong(line, format!("the id {} is used twice", raw.id.value)));
        }
        let pattern = Regex::new(&raw.pattern.value).map_err(|error| {
            wrong(
                raw.pattern.referenced.line(),
                format!("the pattern is no regular expression: {}", last_line(&error)),
            )
        })?;
        if let Some(examples) = &raw.examples {
            let line = examples.referenced.line();
            if !pattern.is_match(&examples.value.matches) {
                return Err(wrong(
                    line,
                    format!("{}: the pattern does not match its own example \"matches\"", raw.id.value),
                ));
            }
            if pattern.is_match(&examples.value.differs) {
                return Err(wrong(
                    line,
                    format!("{}: the pattern matches the example that \"differs\"", raw.id.value),
                ));
            }
        }
        signatures.push(Signature {
            id: raw.id.value,
            place: raw.place,
            pattern,
            cause: raw.cause.trim_end().to_owned(),
            fix: raw.fix.trim_end().to_owned(),
            link: raw.link,
            examples: raw.examples.map(|examples| examples.value),
        });
    }
    Ok(signatures)
}

fn in_words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let advice = |choice: Option<String>| choice.map(|choice| format!("; {choice}")).unwrap_or_default();
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("unknown key \"{field}\"{}", advice(choice(field, expected, "keys here")))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown value \"{variant}\"{}", advice(choice(variant, expected, "values here")))
        }
        Error::SerdeMissingField { field, .. } => format!("the key \"{field}\" is missing"),
        other => {
            let text = other.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            let line = line.split(" at line ").next().unwrap_or_default();
            format!("{line}; a signature file is a list of mappings with id, where, pattern, cause and fix")
        }
    }
}

/// The regex crate shows the pattern first and the reason last.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::node::NodeName;

    #[test]
    fn every_own_signature_matches_its_example_and_not_the_one_that_differs() {
        let own = Signatures::own();
        assert!(own.all.len() >= 15);
        for signature in own.iter() {
            let examples = signature.examples.as_ref().expect(&signature.id);
            assert!(signature.pattern.is_match(&examples.matches), "{}", signature.id);
            assert!(!signature.pattern.is_match(&examples.differs), "{}", signature.id);
            let file = signature.link.as_deref().filter(|link| link.starts_with("docs/"));
            let file = file.and_then(|link| link.split('#').next());
            assert!(file.is_none_or(|file| Path::new(file).is_file()), "{}: {file:?}", signature.id);
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

    #[test]
    fn a_file_that_is_wrong_is_told_with_its_line() {
        let says = |text: &str| parse(Path::new("mine.yaml"), text).expect_err("wrong").to_string();
        let good = "- id: a\n  where: console\n  pattern: 'a+'\n  cause: c\n  fix: f\n";
        assert_eq!(parse(Path::new("mine.yaml"), good).expect("good").len(), 1);
        insta::assert_snapshot!(
            [
                says(&good.replace("a+", "(a")),
                says(&good.replace("console", "consoles")),
                says(&good.replace("  fix: f\n", "")),
                says(&good.replace("fix", "fxi")),
                says(&format!("{good}{good}")),
                says(&format!("{good}  examples:\n    matches: b\n    differs: c\n")),
                says(&format!("{good}  examples:\n    matches: a\n    differs: aa\n")),
                says("just words\n"),
                says("- id: [\n"),
            ]
            .join("\n")
        );
    }

    fn events(happenings: Vec<Happening>) -> Vec<Event> {
        (0..)
            .zip(happenings)
            .map(|(seq, happening)| Event { seq, at: Duration::from_secs(seq), happening })
            .collect()
    }

    #[test]
    fn what_is_seen_again_is_counted_and_what_a_green_scenario_shows_did_no_harm() {
        let console = |node: &str| Happening::Console {
            node: NodeName::new(node).expect("name"),
            line: "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)".into(),
        };
        let began =
            |name: &str| Happening::ScenarioStarted { scenario: name.into(), question: String::new() };
        let ended = |name: &str, outcome| Happening::ScenarioFinished { scenario: name.into(), outcome };
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
            Happening::RunFinished { outcome: Outcome::Failed { cause: "exit: signal 9 (SIGKILL)".into() } },
        ]));
        let told: Vec<_> =
            seen.iter().map(|k| (k.scenario.as_str(), k.harmless, k.times, k.subjects.join(" "))).collect();
        assert_eq!(told, [("green", true, 1, "cp-1".to_owned()), ("red", false, 3, "w-1 w-2".to_owned())]);
        assert!(seen[1].to_string().starts_with("known: no-root (w-1, w-2): "), "{}", seen[1]);
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(text in "[-a-z:'\"\\n\\[\\]{}|>()*+? ]{0,120}") {
            let _ = parse(Path::new("mine.yaml"), &text);
        }

        #[test]
        fn a_damaged_file_of_the_labs_own_does_not_either(at in 0..OWN.len(), text in "[ -~\n]{0,3}") {
            let at = (at..OWN.len()).find(|at| OWN.is_char_boundary(*at)).unwrap_or(OWN.len());
            let (before, after) = OWN.split_at(at);
            let _ = parse(Path::new("mine.yaml"), &format!("{before}{text}{after}"));
        }
    }
}
