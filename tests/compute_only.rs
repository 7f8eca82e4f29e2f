//! Scenario 01 on real VMs, and its negative controls: each must fail for its own reason, or the
//! green of the first test would mean nothing.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use lab::{
    events::Outcome,
    host::{Ending, WhenShort},
    report::Display,
    scenario::{Scenario, Verdict},
    session::{Session, SessionOptions},
};
use tokio::sync::Mutex;

/// One cluster at a time: on two cores a second one would only make both late.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How long a test waits for memory that other labs on this host hold.
const MEMORY_PATIENCE: Duration = Duration::from_secs(900);

async fn run(file: &str) -> Result<Verdict> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let scenario = Scenario::load(Path::new(file)).with_context(|| format!("loading {file}"))?;
    let options =
        SessionOptions { display: Display::Plain, ..SessionOptions::new(format!("test-{}", scenario.name)) };
    let session = Session::open(options).await.context("opening a session")?;
    let verdict = scenario.run(&session, WhenShort::WaitUpTo(MEMORY_PATIENCE)).await;
    let ending = if verdict.outcome.passed() { Ending::Passed } else { Ending::Failed };
    session.close(verdict.outcome.clone(), ending).await.context("closing the session")?;
    Ok(verdict)
}

/// Runs a scenario that must come to what its file expects.
async fn comes_to_what_it_expects(file: &str) -> Result<Verdict> {
    let verdict = run(file).await?;
    match &verdict.outcome {
        Outcome::Passed => Ok(verdict),
        Outcome::Failed { cause } | Outcome::NotRun { cause } => anyhow::bail!("{file}: {cause}"),
    }
}

#[tokio::test]
async fn three_compute_nodes_form_a_working_cluster() -> Result<()> {
    let verdict = comes_to_what_it_expects("scenarios/01-compute-only-cluster.yaml").await?;
    ensure!(verdict.seen.is_empty(), "passed in spite of {:?}", verdict.seen);
    Ok(())
}

#[tokio::test]
async fn a_kernel_panic_at_boot_is_the_named_cause() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/kernel-panic.yaml").await.map(drop)
}

#[tokio::test]
async fn a_node_that_never_gets_its_config_is_found_in_maintenance() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/no-config.yaml").await.map(drop)
}

#[tokio::test]
async fn a_foreign_token_is_the_named_cause() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/foreign-token.yaml").await.map(drop)
}

#[tokio::test]
async fn a_killed_qemu_is_the_named_cause() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/kill-qemu.yaml").await.map(drop)
}

#[tokio::test]
async fn a_topology_without_enough_memory_is_refused_before_boot() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/host-memory.yaml").await.map(drop)
}
