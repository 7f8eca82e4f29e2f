//! Scenario 01 on real VMs, and its negative controls: each must fail for its own reason, or the
//! green of the first test would mean nothing.

#[path = "support/own_configs.rs"]
mod own_configs;
mod support;

use anyhow::{Result, ensure};
use regex::Regex;
use support::{comes_to_what_it_expects, run_in};

#[tokio::test]
async fn three_compute_nodes_form_a_working_cluster() -> Result<()> {
    let (verdict, directory) = run_in("scenarios/01-compute-only-cluster.yaml").await?;
    ensure!(verdict.outcome.passed() && verdict.seen.is_empty(), "{verdict:?}");
    // Nothing found among nothing would be no proof.
    let recording = std::fs::read_to_string(directory.join("events.jsonl"))?;
    for node in ["cp-1", "worker-1", "worker-2"] {
        let looked = Regex::new(&format!("{node}: no Tailscale among [1-9][0-9]* container images"))?;
        ensure!(looked.is_match(&recording), "no container images of {node} were looked at");
    }
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

#[tokio::test]
#[ignore = "long: a second formation; tests/talos_config.rs reads such configs each time; `make test-long` runs it"]
async fn a_cluster_forms_from_configs_that_were_made_elsewhere() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let scenario = own_configs::write(directory.path())?;
    let seen = comes_to_what_it_expects(&scenario.to_string_lossy()).await?;
    ensure!(seen.is_empty(), "passed despite {seen:?}");
    Ok(())
}
