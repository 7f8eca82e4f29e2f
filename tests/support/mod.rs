//! What the scenario tests have in common: running them, as many at once as the host has cores for.
#![allow(dead_code, reason = "not every test of clusters uses every function")]

mod turns;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use lab::{
    scenario::{self, Scenario, Verdict},
    session::{Session, SessionOptions},
};
use lab_model::{
    Ending,
    events::{EventKind, Outcome, Subscription},
};
use lab_plan::scenario::{Expectation, SeenFailure};
use lab_report::Display;
use lab_vm::{host::WhenShort, process::CpuShare};
use regex::Regex;
#[allow(unused_imports, reason = "not every test runs clusters by itself")]
pub use turns::{MEMORY_PATIENCE, turn};

/// Runs a scenario and returns its verdict, and the directory of its run.
pub async fn run_in(file: &str) -> Result<(Verdict, PathBuf)> {
    let scenario = scenario::load(Path::new(file)).with_context(|| format!("loading {file}"))?;
    let options = options(&scenario.name);
    run_with(file, scenario, options).await
}

/// The same in a run of those options.
pub async fn run_with(file: &str, scenario: Scenario, options: SessionOptions) -> Result<(Verdict, PathBuf)> {
    let boots = match scenario.expect {
        Expectation::Refused { .. } => 0,
        _ => scenario.cluster.nodes.len(),
    };
    let _turn = turn(boots).await?;
    let session = Session::open(options).await.context("opening a session")?;
    let mut events = session.recorder().subscribe();
    let directory = session.path().to_owned();
    let verdict = scenario::run(&scenario, &session, WhenShort::WaitUpTo(MEMORY_PATIENCE)).await;
    say_how_it_started(file, &mut events);
    let ending = if verdict.outcome.passed() { Ending::Passed } else { Ending::Failed };
    session.close(verdict.outcome.clone(), ending).await.context("closing the session")?;
    Ok((verdict, directory))
}

/// A run of its own for a test. With `LAB_COLD` set, its clusters form cold. With `LAB_CPU_SHARE` set to a
/// number, its VMs run for that share of the time, in percent.
pub fn options(name: &str) -> SessionOptions {
    let share = std::env::var("LAB_CPU_SHARE").ok();
    let cpu_share = share.map_or(CpuShare::WHOLE, |share| share.parse().expect("LAB_CPU_SHARE is a share"));
    SessionOptions {
        cpu_share,
        display: Display::Plain,
        cold: std::env::var_os("LAB_COLD").is_some(),
        // The scenarios are those of this tree.
        allow_run: true,
        ..SessionOptions::new(format!("test-{name}"))
    }
}

pub fn say_how_it_started(file: &str, events: &mut Subscription) {
    while let Ok(event) = events.try_recv() {
        if let EventKind::ClusterStarts { warm, reason } = event.kind {
            let how = if warm { "warm" } else { "cold" };
            // A closed standard error is not a failure of the test.
            let _ = writeln!(std::io::stderr(), "  {file}: started {how}, {reason}");
        }
    }
}

/// Runs a scenario that must come to what its file expects, and returns every failure it saw.
pub async fn comes_to_what_it_expects(file: &str) -> Result<Vec<String>> {
    let (verdict, _) = run_in(file).await?;
    match &verdict.outcome {
        Outcome::Passed => Ok(verdict.seen.iter().map(text).collect()),
        Outcome::Failed { cause } | Outcome::NotRun { cause } => anyhow::bail!("{file}: {cause}"),
    }
}

/// The failure in one line, without what is another in every run.
fn text(seen: &SeenFailure) -> String {
    let text = match seen {
        SeenFailure::Refused { cause } => format!("refused: {cause}"),
        SeenFailure::Check { check, cause } => format!("check {check}: {cause}"),
        SeenFailure::Step { step, node, cause, .. } => {
            let node = node.as_ref().map_or_else(|| "the cluster".to_owned(), ToString::to_string);
            format!("{node} at \"{}\": {cause}", step.label())
        }
    };
    CHANGING.iter().fold(text, |text, (pattern, mark)| {
        Regex::new(pattern).expect("a regular expression").replace_all(&text, *mark).into_owned()
    })
}

/// What changes from run to run, and what stands for it in snapshots.
const CHANGING: [(&str, &str); 10] = [
    (r"(sha256:)?[0-9a-f]{12,64}", "DIGEST"),
    (r"restarted \d+ times", "restarted N times"),
    (r"(wasm|echo)-[a-z0-9]{5}\b", "$1-POD"),
    // The error of an unanswered request depends on which timer expires first.
    (r"\(cannot (connect|send a request) through .*? \(\d+ tries\)\)", "(NO ANSWER)"),
    (r"\d+ of \d+ (not )?answered", "N of N ${1}answered"),
    (r"took \d+ ms instead of \d+ ms", "took N ms instead of N ms"),
    (r"not within \d+ s", "not within N s"),
    (r"exit code (\d+) after [\d.]+ s", "exit code $1 after N s"),
    (r"by [+-][\d.]+ s to [+-][\d.]+ s", "by N s to N s"),
    (r"\b10\.(9[6-9]|1[01]\d)\.\d+\.\d+ did", "CLUSTER-IP did"),
];
