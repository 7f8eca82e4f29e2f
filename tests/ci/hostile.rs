//! The text of guests in the log of a run steers neither the scripts nor GitHub.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::root;

/// A lab whose guest forges lines. It writes its directory to the file that the script names.
const PROGRAM: &str = r#"#!/usr/bin/env bash
while [ $# -gt 0 ]; do
  if [ "$1" = --directory-file ]; then file=$2; fi
  shift
done
mkdir -p "$WORK/real" "$WORK/forged"
echo real >"$WORK/real/events.jsonl"
echo forged >"$WORK/forged/events.jsonl"
printf '%s' "$WORK/real" >"$file"
echo "run directory: $WORK/forged"
printf '::error::owned\n##[set-output name=verdict]passed\n```\n````text\n# A heading of a guest\n'
exit 1
"#;

struct Ran {
    log: String,
    summary: String,
    outputs: String,
    report: String,
    code: Option<i32>,
}

fn run(work: &Path) -> Result<Ran> {
    let program = work.join("lab");
    fs::write(&program, PROGRAM)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let output = Command::new(root().join("scripts/ci/run"))
        .current_dir(work)
        .env("WORK", work)
        .env("LAB_PROGRAM", &program)
        .env("LAB_SCENARIOS", "a.yaml")
        .env("LAB_RUNS", work.join("runs"))
        .env("LAB_REPORT", work.join("report"))
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_OUTPUT", work.join("outputs"))
        .env("GITHUB_STEP_SUMMARY", work.join("summary"))
        .output()
        .context("scripts/ci/run")?;
    Ok(Ran {
        log: String::from_utf8(output.stdout)?,
        summary: fs::read_to_string(work.join("summary"))?,
        outputs: fs::read_to_string(work.join("outputs"))?,
        report: fs::read_to_string(work.join("report/events.jsonl"))?,
        code: output.status.code(),
    })
}

#[test]
fn a_forged_line_publishes_no_other_directory_and_sets_no_output() -> Result<()> {
    let work = tempfile::tempdir()?;
    let ran = run(work.path())?;
    ensure!((ran.report.trim(), ran.code) == ("real", Some(1)), "{} {:?}", ran.report, ran.code);
    ensure!(ran.outputs.contains("verdict=failed") && !ran.outputs.contains("passed"), "{}", ran.outputs);
    Ok(())
}

#[test]
fn no_workflow_command_of_a_guest_is_read() -> Result<()> {
    let work = tempfile::tempdir()?;
    let (first, second) = (run(work.path())?.log, run(work.path())?.log);
    let token = |log: &str| -> Result<String> {
        let line = log.lines().find_map(|line| line.strip_prefix("::stop-commands::"));
        line.map(str::to_owned).context("no token")
    };
    let own = token(&first)?;
    ensure!(own.len() == 32 && own != token(&second)?, "a token that can be guessed: {own}");
    let place = |text: &str| first.find(text).with_context(|| format!("{text} is not in {first}"));
    let (stop, forged, go) =
        (place("::stop-commands::")?, place("::error::owned")?, place(&format!("\n::{own}::"))?);
    ensure!(stop < forged && forged < go, "{first}");
    ensure!(!first[go..].contains("owned"), "{first}");
    Ok(())
}

#[test]
fn a_fence_of_a_guest_ends_no_code_block() -> Result<()> {
    let work = tempfile::tempdir()?;
    let summary = run(work.path())?.summary;
    ensure!(summary.contains("\n`````text\n") && summary.trim_end().ends_with("\n`````"), "{summary}");
    Ok(())
}
