//! Readers of what runs and nodes left behind: recordings, and texts that are cleared of secrets.

use std::{fs, path::Path};

use lab_model::{
    events::{Event, EventKind},
    excerpt, is_hidden, json_shown, redact, shown, visible,
};
use lab_report::{
    Stopwatch,
    merge::{Merged, ShardRecording, merge},
    read_recording,
};

/// Recordings, a zero between two of them.
pub fn recordings(data: &[u8]) {
    let work = tempfile::tempdir().expect("a directory");
    let mut read = Vec::new();
    for (number, recording) in data.split(|byte| *byte == 0).take(4).enumerate() {
        let path = work.path().join(number.to_string());
        fs::write(&path, recording).expect("write");
        if let Ok(events) = read_recording(&path) {
            let _ = Stopwatch::of(&events).to_string();
            read.extend(ShardRecording::of(number.to_string(), events));
        }
    }
    if let Ok(merged) = merge("joined", read) {
        joined(&merged, &work.path().join("joined"));
    }
}

/// What is joined is a recording of one run.
fn joined(merged: &Merged, path: &Path) {
    let seqs = merged.events.iter().map(|event| event.seq);
    assert!(seqs.eq(0..merged.events.len() as u64), "gaps in the numbers");
    let starts = |event: &&Event| matches!(event.kind, EventKind::RunStarted { .. });
    assert_eq!(merged.events.iter().filter(starts).count(), 1);
    let end = merged.events.last().map(|event| &event.kind);
    assert!(matches!(end, Some(EventKind::RunFinished { outcome }) if *outcome == merged.outcome));
    let whole = merged.shards.iter().all(|shard| shard.outcome.as_ref().is_some_and(|o| o.passed()));
    assert!(whole || !merged.outcome.passed(), "passed although a shard did not");
    let lines: Vec<_> =
        merged.events.iter().map(|event| serde_json::to_string(event).expect("written") + "\n").collect();
    fs::write(path, lines.concat()).expect("write");
    assert_eq!(read_recording(path).expect("read again").len(), merged.events.len());
}

/// Foreign text, for a line, a terminal, JSON and an excerpt of a file.
pub fn foreign(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let line = visible(text, 200);
    assert!(!line.contains(is_hidden) && line.chars().count() <= 200, "not one bounded, visible line");
    assert_eq!(visible(&line, 200), line, "what is visible is not left as it is");
    let hides = |text: &str| text.contains(|c| is_hidden(c) && c != '\n' && c != '\t');
    assert!(!hides(&shown(text)) && !hides(&excerpt(text)), "something is hidden");
    assert_eq!(excerpt(text).len(), text.len());
    let json = json_shown(&serde_json::to_string(text).expect("json"));
    assert!(!hides(&json) && serde_json::from_str::<String>(&json).is_ok_and(|same| same == text));
}

/// YAML before a parser without limits reads it.
pub fn nested(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = lab_model::yaml::within_limits(text, 1 << 20);
    }
}

/// A text of a node's.
pub fn redacted(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let clean = redact(text);
    assert_eq!(redact(&clean), clean, "what is clean is not left as it is");
    let key = |line: &str| line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----");
    assert!(!clean.lines().any(key), "a private key is left");
}
