//! A network plugin of the user's own on real VMs, and what is said when it is missing or not alone.

mod support;

use anyhow::{Result, ensure};
use support::comes_to_what_it_expects;

#[tokio::test]
#[ignore = "long: `make test-long` runs it"]
async fn a_cluster_forms_with_a_network_plugin_from_manifests() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/cni/own-plugin.yaml").await?;
    ensure!(seen.is_empty(), "passed despite {seen:?}");
    Ok(())
}

#[tokio::test]
#[ignore = "long: a node of its own that waits for its plugin; the cause has unit tests in lab/cluster/formation/diagnosis.rs; `make test-long` runs it"]
async fn a_missing_network_plugin_is_the_named_cause() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/cni/no-plugin.yaml").await.map(drop)
}

#[tokio::test]
async fn a_second_network_plugin_in_the_config_is_refused() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/cni/two-plugins.yaml").await.map(drop)
}
