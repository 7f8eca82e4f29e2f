//! Scenario 03 on real VMs, and its negative controls: each breaks the chain at one link, and that
//! link must be named.

mod secrets;
mod support;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use lab::{
    events::Outcome,
    host::{Ending, WhenShort},
    report::Display,
    scenario::Scenario,
    session::{Session, SessionOptions, write_bundle},
};
use secrets::{files_below, process_files, search};
use support::{MEMORY_PATIENCE, ONE_AT_A_TIME, comes_to_what_it_expects};

#[tokio::test]
async fn a_tailnet_client_reaches_pods_and_services_through_the_gateway() -> Result<()> {
    let seen = comes_to_what_it_expects("scenarios/03-tailscale-routing-test.yaml").await?;
    ensure!(seen.is_empty(), "passed in spite of {seen:?}");
    Ok(())
}

#[tokio::test]
async fn routes_that_nobody_approved_are_the_named_link() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/not-approved.yaml").await?;
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
}

#[tokio::test]
async fn an_expired_key_is_the_named_link() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/expired-key.yaml").await?;
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
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
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/routes-not-covered.yaml").await?;
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
}

/// The key in the document of `planted-key.yaml`, without what a redaction may know it by.
const PLANTED: &str = "plantedCNTRL-0123456789";

#[tokio::test]
async fn no_artefact_of_a_run_holds_a_key() -> Result<()> {
    let _turn = ONE_AT_A_TIME.lock().await;
    let scenario = Scenario::load(Path::new("tests/scenarios/tailnet/planted-key.yaml"))?;
    let options = SessionOptions { display: Display::Plain, ..SessionOptions::new("test-planted-key") };
    let session = Session::open(options).await?;
    let running = session.start(scenario.request(WhenShort::WaitUpTo(MEMORY_PATIENCE))).await?;
    running.cluster.form().await?;
    session.save_kubeconfig(&running.cluster)?;
    let tailnet = running.cluster.tailnet().context("the cluster has a tailnet")?;
    let client = tailnet.outside_client(Duration::from_secs(300)).await?;
    let mut secrets = vec![PLANTED.to_owned()];
    secrets.extend(tailnet.control().issued_keys().iter().map(|key| key.reveal().to_owned()));
    ensure!(secrets.len() >= 3, "one key for the gateway and one for the client");

    // While it runs: what the process lists of the host and of the gateway show.
    search(process_files(), &secrets)?;
    let gateway = running.cluster.plan().nodes.first().context("the gateway")?;
    let limit = Duration::from_secs(60);
    let processes = running.cluster.connect(gateway).await?.processes(limit).await?;
    let arguments: Vec<_> = processes.iter().map(|process| process.arguments.as_str()).collect();
    ensure!(arguments.iter().any(|line| line.contains("tailscaled")), "no tailscaled among {arguments:?}");
    for secret in &secrets {
        ensure!(!arguments.iter().any(|line| line.contains(secret)), "a process of the gateway shows a key");
    }

    // Once it is over: everything that is left of the run, with the bundle of a failure.
    write_bundle(&running.cluster, "a failure that is none").await?;
    drop(client);
    let path = session.path().to_owned();
    running.shut_down().await;
    session.close(Outcome::Passed, Ending::Passed).await?;
    let files = files_below(&path)?;
    ensure!(
        search(files.clone(), &["TS_ROUTES".to_owned()]).is_err(),
        "the search does not find what is there"
    );
    ensure!(files.iter().any(|file| file.ends_with("bundle/nodes/gateway-1/ext-tailscale.log")), "{files:?}");
    search(files, &secrets)
}
