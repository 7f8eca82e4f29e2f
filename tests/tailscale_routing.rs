//! Scenario 03 on real VMs, and its negative controls: each breaks the chain at one link, and that
//! link must be named.

mod support;

use anyhow::{Result, ensure};
use support::comes_to_what_it_expects;

#[tokio::test]
async fn a_tailnet_client_reaches_pods_and_services_through_the_gateway() -> Result<()> {
    let seen = comes_to_what_it_expects("scenarios/03-tailscale-routing-test.yaml").await?;
    ensure!(seen.is_empty(), "passed in spite of {seen:?}");
    Ok(())
}

#[tokio::test]
async fn routes_that_nobody_approved_are_the_named_link() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/tailnet/not-approved.yaml").await.map(drop)
}

#[tokio::test]
async fn an_expired_key_is_the_named_link() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/tailnet/expired-key.yaml").await.map(drop)
}

#[tokio::test]
async fn a_control_server_that_comes_up_late_is_found_by_the_gateway_itself() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/tailnet/control-server-late.yaml").await.map(drop)
}

#[tokio::test]
async fn a_cut_link_a_reboot_and_a_lost_direct_path_recover_without_help() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/tailnet/recovery.yaml").await.map(drop)
}

#[tokio::test]
async fn routes_that_do_not_cover_the_cluster_are_refused_before_boot() -> Result<()> {
    comes_to_what_it_expects("tests/scenarios/tailnet/routes-not-covered.yaml").await.map(drop)
}
