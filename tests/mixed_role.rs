//! Scenario 02 on real VMs, in both topologies.

mod support;

use anyhow::{Result, ensure};
use support::comes_to_what_it_expects;

#[tokio::test]
async fn a_gateway_that_is_a_worker_forms_one_cluster_with_compute_nodes() -> Result<()> {
    let seen = comes_to_what_it_expects("scenarios/02-mixed-role-cluster.yaml").await?;
    ensure!(seen.is_empty(), "passed despite {seen:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "long: a second topology, formed cold; `make test-long` runs it"]
async fn a_gateway_that_is_the_only_control_plane_forms_one_cluster_with_compute_nodes() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/topologies/gateway-control-plane.yaml").await?;
    ensure!(seen.is_empty(), "passed despite {seen:?}");
    Ok(())
}
