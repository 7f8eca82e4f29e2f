//! A property of every form of report: for any foreign text in any field of a recording, the form parses, hides nothing,
//! and has no markup of its own in it.

use std::{path::Path, time::Duration};

use lab_model::{
    events::{Event, every_kind},
    is_hidden,
};
use proptest::prelude::*;

use crate::{Recording, Report, Signatures, plain};

/// What a terminal, a browser, a test report or a CI system would obey.
const ATTACKS: [&str; 10] = [
    "\x1b]0;owned\x07\x1b[2J",
    "\r\n::error::owned",
    "##[set-output name=verdict]passed",
    "<script>owned()</script>",
    "]]><testcase name=\"owned\"/>",
    "[[ATTACHMENT|/etc/passwd]]",
    "```\n# owned\n| a | b |",
    "\u{202e}\u{2066}\u{200b}\u{feff}",
    "\"}],\"owned\":[{\"",
    "\0\u{9b}31m\u{2028}",
];

/// A recording with these texts in every field, as somebody else could write it.
fn recorded(directory: &Path, texts: &[String]) -> Recording {
    let mut lines = String::new();
    for (seq, kind) in texts.iter().flat_map(|text| every_kind(text)).enumerate() {
        let event = Event { seq: seq as u64, at: Duration::from_secs(seq as u64), kind };
        lines += &(serde_json::to_string(&event).expect("json") + "\n");
    }
    std::fs::write(directory.join("events.jsonl"), lines).expect("write");
    Recording::of_run(directory).expect("read")
}

fn forms(recording: &Recording) -> Vec<(&'static str, String)> {
    let report = Report::of(recording, &Signatures::own());
    let plain: Vec<_> = recording.events.iter().filter_map(plain::line).collect();
    let again: Vec<_> =
        recording.events.iter().map(|event| serde_json::to_string(event).expect("json")).collect();
    vec![
        ("plain", plain.join("\n")),
        ("text", report.summary.to_string()),
        ("markdown", report.markdown()),
        ("junit", report.junit()),
        ("html", report.html()),
        ("trace", report.trace()),
        ("recording", again.join("\n")),
    ]
}

fn check(texts: &[String]) {
    let directory = tempfile::tempdir().expect("tempdir");
    let recording = recorded(directory.path(), texts);
    for (name, text) in forms(&recording) {
        let hidden = text.find(|c: char| is_hidden(c) && c != '\n' && c != '\t');
        let near = hidden.map(|at| text[at..].chars().take(20).collect::<String>());
        assert_eq!(near, None, "{name}");
        // Readers of JUnit files take such a mark for the name of a file to publish.
        assert!(name != "junit" || !text.contains("[[ATTACHMENT|/etc"), "{name} names a file of the host");
        let no_command = |line: &str| !line.trim_start().starts_with("::");
        assert!(name != "plain" || text.lines().all(no_command), "{name} has a workflow command");
        match name {
            "trace" => drop(serde_json::from_str::<serde_json::Value>(&text).expect("the trace is JSON")),
            "junit" => drop(quick_junit::Report::deserialize_from_str(&text).expect("JUnit is XML")),
            "html" | "markdown" => assert!(!text.contains("<script>owned"), "{name} has markup"),
            _ => {}
        }
    }
    // Every event stays one line.
    let lines = recording.events.iter().filter_map(plain::line);
    assert!(lines.into_iter().all(|line| !line.contains('\n')), "a forged line");
}

#[test]
fn no_form_of_report_obeys_a_guest() {
    check(&ATTACKS.map(str::to_owned));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_text_in_any_field_is_shown_and_obeyed_by_none(text in any::<String>(), attack in 0..ATTACKS.len()) {
        check(&[format!("{text}{}{text}", ATTACKS[attack])]);
    }
}

#[test]
fn every_kind_of_event_is_checked() {
    // An event that is added needs an example, or else its texts are not checked.
    let kinds: std::collections::BTreeSet<_> = every_kind("x")
        .iter()
        .map(|kind| serde_json::to_value(kind).expect("json")["event"].to_string())
        .collect();
    assert_eq!(kinds.len(), 22, "{kinds:?}");
}
