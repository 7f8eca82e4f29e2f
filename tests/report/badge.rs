//! Badges by command.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{lab, run_root, said};

#[test]
fn a_badge_says_the_verdict_on_the_run_as_a_picture_and_as_data() -> Result<()> {
    let root = run_root()?;
    let result =
        |run: &str, text: &str| fs::write(root.path().join("target/lab").join(run).join("result.json"), text);
    result("green-run", r#"{"ending":"passed","at":"2026-01-01T00:00:00Z"}"#)?;
    result("red-run", r#"{"ending":"failed","at":"2026-01-01T00:00:00Z"}"#)?;
    let badge = |arguments: &[&str]| -> Result<(Value, String)> {
        let files = ["--out", "badge.json", "--out", "badge.svg"];
        let all: Vec<_> = ["report", "badge"].iter().chain(arguments).chain(&files).copied().collect();
        let output = lab(root.path(), &all)?;
        ensure!(output.status.success(), "{all:?}: {}", said(&output));
        let data = serde_json::from_slice(&fs::read(root.path().join("badge.json"))?)?;
        Ok((data, fs::read_to_string(root.path().join("badge.svg"))?))
    };
    let is = |(data, picture): (Value, String), message: &str, colour: &str| -> Result<()> {
        ensure!(
            data["message"] == message && data["color"] == colour && data["schemaVersion"] == 1,
            "{data}"
        );
        ensure!(picture.contains(&format!(">{message}</text>")), "{picture}");
        Ok(())
    };
    // The newest run is the red one.
    is(badge(&[])?, "failed", "red")?;
    is(badge(&["green"])?, "passed", "brightgreen")?;
    let (data, picture) = badge(&["green", "--label", "nightly <1>"])?;
    ensure!(data["label"] == "nightly <1>" && picture.contains("nightly &lt;1&gt;"), "{picture}");
    for (word, colour) in [
        ("passed", "brightgreen"),
        ("refused", "orange"),
        ("host-unable", "yellow"),
        ("interrupted", "lightgrey"),
        ("broken", "blueviolet"),
    ] {
        is(badge(&["--verdict", word])?, word, colour)?;
    }
    // A step that did not run has no verdict, and a killed run has none.
    is(badge(&["--verdict", ""])?, "broken", "blueviolet")?;
    result("green-run", r#"{"ending":"died","at":"2026-01-01T00:00:00Z"}"#)?;
    is(badge(&["green"])?, "broken", "blueviolet")?;
    result("green-run", "{}")?;
    is(badge(&["green"])?, "broken", "blueviolet")?;
    let events = root.path().join("target/lab/green-run/events.jsonl");
    let text = fs::read_to_string(&events)?;
    fs::write(&events, text.lines().take(100).map(|line| format!("{line}\n")).collect::<String>())?;
    fs::remove_file(root.path().join("target/lab/green-run/result.json"))?;
    is(badge(&["green"])?, "no verdict", "lightgrey")
}

#[test]
fn what_is_no_badge_is_refused_and_nothing_is_written() -> Result<()> {
    let root = run_root()?;
    for (arguments, told) in [
        (&["--out", "a.svg", "--out", "b.png"][..], "b.png is no badge; its name must end in .svg or .json"),
        (&["--out", "a.svg", "--verdict", "green"], "\"green\" is not a verdict; use passed, failed"),
        (&["--out", "a.svg", "nothing"], "`lab report history` lists runs"),
        (&["--out", "nowhere/a.svg", "--verdict", "passed"], "write nowhere/a.svg"),
        (&["--out", "a.svg", "--verdict", "passed", "green"], "cannot be used with"),
        (&[], "--out <FILE>"),
    ] {
        let all: Vec<_> = ["report", "badge"].iter().chain(arguments).copied().collect();
        let output = lab(root.path(), &all)?;
        ensure!(
            output.status.code() == Some(2) && said(&output).contains(told),
            "{all:?}: {}",
            said(&output)
        );
    }
    let left = fs::read_dir(root.path())?.collect::<Result<Vec<_>, _>>().context("a directory")?;
    ensure!(left.len() == 1, "{left:?}");
    Ok(())
}
