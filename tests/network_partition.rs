//! Scenario 05 on real VMs, and its negative controls: the same checks on links that nothing is done to.

mod support;

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use support::{comes_to_what_it_expects, run_in};

#[tokio::test]
#[ignore = "long: waits until Kubernetes misses a node, several times; `make test-long` runs it"]
async fn a_cluster_gets_over_nodes_that_are_cut_off() -> Result<()> {
    let (verdict, directory) = run_in("scenarios/05-network-partition.yaml").await?;
    ensure!(verdict.outcome.passed(), "{:?}", verdict.outcome);
    let evidence = std::fs::read_to_string(directory.join("events.jsonl"))?;
    for figure in ["NotReady", "Ready again", "answered over", "every node is Ready"] {
        ensure!(evidence.contains(figure), "no evidence of \"{figure}\"");
    }
    reads_as_kubernetes_traffic(directory.join("network/worker-1.pcapng"))
}

/// A stock tshark finds the worker's talk with the API server in the capture, both ways, and names the node.
fn reads_as_kubernetes_traffic(file: PathBuf) -> Result<()> {
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(&file)
        .args(["-Y", "tcp.port == 6443", "-T", "fields", "-e", "frame.interface_name", "-e", "tcp.dstport"])
        .output()
        .context("tshark is missing; make setup installs it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tshark on {}: {said}", file.display());
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let (to, from): (Vec<&str>, Vec<&str>) = lines.lines().partition(|line| line.ends_with("\t6443"));
    ensure!(
        to.len() > 100 && from.len() > 100,
        "{} frames to and {} from the API server",
        to.len(),
        from.len()
    );
    ensure!(lines.lines().all(|line| line.starts_with("worker-1\t")), "{}", &lines[..200]);
    Ok(())
}

#[tokio::test]
#[ignore = "long: waits until Kubernetes misses a node, several times; `make test-long` runs it"]
async fn a_node_whose_link_was_not_cut_is_told_from_one_that_was() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/links/no-cut.yaml").await.map(drop)
}

#[tokio::test]
#[ignore = "long: waits until Kubernetes misses a node, several times; `make test-long` runs it"]
async fn a_network_that_was_not_parted_or_shaped_is_told_from_one_that_was() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/links/no-partition.yaml").await?;
    let shape = seen.iter().find(|text| text.starts_with("check link-shape: "));
    ensure!(shape.is_some_and(|text| text.contains("should come 800 ms later")), "{seen:#?}");
    Ok(())
}
