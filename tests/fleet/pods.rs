//! Pods of an Indexed Job on one volume: which shard each runs, and which of them merges.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{
    pod::{Volume, lab_of_this_host},
    rendered::{COUNTED, Fleet, Release, shards_of},
    root,
};

/// A lab whose runs record a verdict and boot nothing; it merges as the lab does. CODES has the exit code of each shard.
const PROGRAM: &str = r#"#!/usr/bin/env bash
set -euo pipefail
if [ "$1" = report ]; then exec "$REAL" "$@"; fi
while [ $# -gt 0 ]; do
  case "$1" in
    --directory-file) file=$2 ;;
    --shard) shard=$2 ;;
  esac
  shift
done
code=$(printf '%s' "$CODES" | cut -d ' ' -f "${shard%/*}")
run=$(mktemp -d "$LAB_RUNS/run-XXXXXX")
printf '%s' "$run" >"$file"
outcome='"passed"'
if [ "$code" != 0 ]; then outcome='{"failed":{"cause":"as asked for"}}'; fi
if [ "$code" = 2 ]; then exit 2; fi
name=s${shard%/*}
{
  printf '{"seq":0,"t":0,"event":"run-started","run":"r-%s","title":"t","wall":"2026-01-01T00:00:00Z","format":1,"shard":{"number":"%s","of_scenarios":["s1","s2","s3"]}}\n' "$name" "$shard"
  printf '{"seq":1,"t":1,"event":"scenario-started","scenario":"%s","question":"?"}\n' "$name"
  printf '{"seq":2,"t":2,"event":"scenario-finished","scenario":"%s","outcome":%s}\n' "$name" "$outcome"
  printf '{"seq":3,"t":3,"event":"run-finished","outcome":%s}\n' "$outcome"
} >"$run/events.jsonl"
exit "$code"
"#;

struct Pods {
    _directory: tempfile::TempDir,
    release: Release,
    volume: Volume,
    program: PathBuf,
}

impl Pods {
    /// Three shards on an empty volume.
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        for name in ["results", "runs"] {
            fs::create_dir(at(name))?;
        }
        let program = at("lab");
        fs::write(&program, PROGRAM)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let fleet = Fleet::new()?;
        let settings = "configMapGenerator:\n  - name: lab-settings\n    behavior: merge\n    literals: [LAB_SCENARIOS=s1 s2 s3]\n";
        let rest = format!("{settings}{}{COUNTED}", shards_of(3));
        let release = Release::rendered(&fleet.release("three", &rest)?)?;
        let volume = Volume {
            results: at("results"),
            uid: "uid-1".into(),
            host: lab_of_this_host(&program, &at("runs")),
        };
        Ok(Self { _directory: directory, release, volume, program })
    }

    fn command(&self, index: u32, codes: &str) -> Result<std::process::Command> {
        let mut command = self.volume.shard(&self.release, index)?;
        command.env("REAL", env!("CARGO_BIN_EXE_lab")).env("CODES", codes);
        Ok(command)
    }

    fn run(&self, index: u32, codes: &str) -> Result<(Option<i32>, String)> {
        Ok(ended(&self.command(index, codes)?.output().context("scripts/ci/run")?))
    }

    fn merge(&self) -> Result<(Option<i32>, String)> {
        let mut command = self.volume.merge(&self.release)?;
        Ok(ended(&command.env("REAL", env!("CARGO_BIN_EXE_lab")).output().context("scripts/ci/merge")?))
    }
}

fn ended(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), text.concat())
}

#[test]
fn the_pod_that_ends_last_merges_whichever_it_is() -> Result<()> {
    for order in [[0, 1, 2], [2, 0, 1]] {
        let pods = Pods::new()?;
        for (nth, index) in order.into_iter().enumerate() {
            ensure!(pods.volume.merged().is_none(), "merged before shard {index} ended");
            let (code, log) = pods.run(index, "0 0 0")?;
            ensure!(code == Some(0), "{log}");
            let report = pods.volume.results.join(format!("shard-{}", index + 1));
            ensure!(
                fs::read_to_string(report.join("events.jsonl"))?.contains(&format!("\"{}/3\"", index + 1))
            );
            ensure!(log.contains("all 3 shards: passed") == (nth == 2), "{log}");
        }
        ensure!(pods.volume.merged().as_deref() == Some("passed"));
        ensure!(pods.volume.results.join("merged/report.html").is_file());
    }
    Ok(())
}

#[test]
fn of_pods_that_end_together_one_merges() -> Result<()> {
    let pods = Pods::new()?;
    let spawn = |index| -> Result<_> {
        Ok(pods.command(index, "0 0 0")?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    };
    let running: Vec<_> = (0..3).map(spawn).collect::<Result<_>>()?;
    let logs: Vec<_> =
        running.into_iter().map(|pod| Ok(ended(&pod.wait_with_output()?))).collect::<Result<_>>()?;
    ensure!(logs.iter().all(|(code, _)| *code == Some(0)), "{logs:?}");
    let merged = logs.iter().filter(|(_, log)| log.contains("all 3 shards: passed")).count();
    ensure!(merged == 1 && pods.volume.merged().as_deref() == Some("passed"), "{logs:?}");
    Ok(())
}

#[test]
fn a_failed_shard_fails_the_release_and_its_own_index_alone() -> Result<()> {
    let pods = Pods::new()?;
    ensure!(pods.run(0, "0 1 0")?.0 == Some(0));
    ensure!(pods.run(1, "0 1 0")?.0 == Some(1));
    let (code, log) = pods.run(2, "0 1 0")?;
    ensure!(code == Some(0) && log.contains("all 3 shards: failed"), "{code:?} {log}");
    ensure!(pods.volume.merged().as_deref() == Some("failed"));
    // A shard that was refused has no recording.
    let pods = Pods::new()?;
    for (index, code) in [(0, 0), (1, 2), (2, 0)] {
        let ended = pods.run(index, "0 2 0")?;
        ensure!(ended.0 == Some(code), "{ended:?}");
    }
    let merged = fs::read_to_string(pods.volume.results.join("merged/results.txt"))?;
    ensure!(
        merged.contains("shard 2/3 is missing") && pods.volume.merged().as_deref() == Some("failed"),
        "{merged}"
    );
    Ok(())
}

#[test]
fn a_shard_that_was_lost_is_missed_by_the_job_that_merges() -> Result<()> {
    let pods = Pods::new()?;
    for index in [0, 2] {
        ensure!(pods.run(index, "0 0 0")?.0 == Some(0));
    }
    ensure!(pods.volume.merged().is_none());
    let (code, log) = pods.merge()?;
    ensure!(code == Some(1) && log.contains("shard 2/3 is missing"), "{code:?} {log}");
    ensure!(pods.volume.merged().as_deref() == Some("failed"));
    // Its replacement ends last.
    let (code, log) = pods.run(1, "0 0 0")?;
    ensure!(code == Some(0) && pods.volume.merged().as_deref() == Some("passed"), "{log}");
    Ok(())
}

#[test]
fn an_interrupted_shard_has_not_ended() -> Result<()> {
    let pods = Pods::new()?;
    for index in 0..3 {
        ensure!(pods.run(index, "0 130 0")?.0 == Some(if index == 1 { 130 } else { 0 }));
    }
    ensure!(pods.volume.merged().is_none(), "merged without the shard that another pod will run");
    ensure!(pods.run(1, "0 0 0")?.0 == Some(0) && pods.volume.merged().as_deref() == Some("passed"));
    Ok(())
}

#[test]
fn nothing_of_an_earlier_job_is_merged() -> Result<()> {
    let mut pods = Pods::new()?;
    for index in 0..3 {
        pods.run(index, "0 0 0")?;
    }
    ensure!(pods.volume.merged().as_deref() == Some("passed"));
    pods.volume.uid = "uid-2".into();
    let (_, log) = pods.run(0, "0 0 0")?;
    ensure!(log.contains("shard 2 has not ended") && pods.volume.merged().is_none(), "{log}");
    ensure!(!pods.volume.results.join("shard-2").exists());
    Ok(())
}

#[test]
fn an_index_that_fits_no_shard_is_refused() -> Result<()> {
    let pods = Pods::new()?;
    let refused = |change: &dyn Fn(&mut std::process::Command), told: &str| -> Result<()> {
        let mut command = pods.command(0, "0 0 0")?;
        change(&mut command);
        let (code, log) = ended(&command.output()?);
        ensure!(code == Some(2) && log.contains(told), "{told}: {code:?} {log}");
        ensure!(log.contains("verdict=refused"), "{log}");
        Ok(())
    };
    let set = |name: &'static str, value: &'static str| {
        move |command: &mut std::process::Command| {
            command.env(name, value);
        }
    };
    refused(&set("JOB_COMPLETION_INDEX", "3"), "more completions than shards")?;
    refused(&set("JOB_COMPLETION_INDEX", "-1"), "sets a whole number")?;
    refused(&set("JOB_COMPLETION_INDEX", "a[$(reboot)]"), "sets a whole number")?;
    refused(&set("JOB_COMPLETION_INDEX", ""), "sets a whole number")?;
    refused(&set("LAB_SHARDS", ""), "LAB_SHARDS is \"\"")?;
    refused(&set("LAB_SHARDS", "0"), "more completions than shards")?;
    refused(&set("LAB_SHARD", "1/2"), "set one of them")?;
    refused(&set("LAB_JOB", "../x"), "it is the UID of the Job")?;
    ensure!(!pods.volume.results.join("shard-1").exists(), "a refused pod wrote");
    // A number of two digits is no octal one.
    let mut command = pods.command(8, "")?;
    let codes = ["0"; 9].join(" ");
    command.env("JOB_COMPLETION_INDEX", "08").env("LAB_SHARDS", "09").env("CODES", codes);
    let (code, log) = ended(&command.output()?);
    ensure!(code == Some(0) && pods.volume.results.join("shard-9").is_dir(), "{code:?} {log}");
    Ok(())
}

/// Outside of an Indexed Job, `run` is as before.
#[test]
fn a_shard_without_an_index_is_the_one_that_is_named() -> Result<()> {
    let pods = Pods::new()?;
    let report = pods.volume.results.join("report");
    let mut command = std::process::Command::new(root().join("scripts/ci/run"));
    for (name, path) in
        lab_of_this_host(&pods.program, Path::new(&pods.volume.results.with_file_name("runs")))
    {
        command.env(name, path);
    }
    command
        .env_remove("JOB_COMPLETION_INDEX")
        .env("LAB_SCENARIOS", "s1 s2 s3")
        .env("LAB_SHARD", "2/3")
        .env("CODES", "1 0 1")
        .env("LAB_REPORT", &report);
    let (code, log) = ended(&command.output()?);
    ensure!(code == Some(0) && fs::read_to_string(report.join("events.jsonl"))?.contains("\"2/3\""), "{log}");
    ensure!(!log.contains("shards:") && !report.join("ended").exists(), "{log}");
    Ok(())
}
