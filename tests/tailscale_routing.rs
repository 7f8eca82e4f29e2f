//! Scenario 03 on real VMs, and its negative controls: each breaks the chain at one link, and that
//! link must be named.

mod secrets;
mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lab::{
    scenario,
    session::{Session, SessionOptions, write_bundle},
};
use lab_cluster::{
    formation::RealTailnet,
    tailnet::{Approval, ControlServer, ControlSpec, GATEWAY_TAG, KeyOptions, Programs, Transport},
};
use lab_model::{Ending, events::Outcome};
use lab_vm::{host::WhenShort, process::Processes};
use secrets::{files_below, process_files, search};
use support::{MEMORY_PATIENCE, comes_to_what_it_expects, options, run_with, say_how_it_started, turn};

#[tokio::test]
async fn a_tailnet_client_reaches_pods_and_services_through_the_gateway() -> Result<()> {
    let seen = comes_to_what_it_expects("scenarios/03-tailscale-routing-test.yaml").await?;
    ensure!(seen.is_empty(), "passed despite {seen:?}");
    Ok(())
}

#[tokio::test]
async fn routes_without_approval_are_the_named_link() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/not-approved.yaml").await?;
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
}

#[tokio::test]
#[ignore = "long: waits for a link that never comes; `make test-long` runs it"]
async fn a_service_without_kube_proxy_is_the_named_link() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/no-kube-proxy.yaml").await?;
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
}

#[tokio::test]
#[ignore = "long: a third cluster whose gateway does not join; tests/tailnet.rs logs in with such keys; `make test-long` runs it"]
async fn an_expired_key_is_the_named_link() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/expired-key.yaml").await?;
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
}

#[tokio::test]
#[ignore = "long: `make test-long` runs it"]
async fn a_late_control_server_a_cut_link_a_reboot_and_a_lost_direct_path_recover_without_help() -> Result<()>
{
    comes_to_what_it_expects("tests/scenarios/tailnet/recovery.yaml").await.map(drop)
}

#[tokio::test]
async fn routes_that_do_not_cover_the_cluster_are_refused_before_boot() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/routes-not-covered.yaml").await?;
    insta::assert_snapshot!(seen.join("\n"));
    Ok(())
}

#[tokio::test]
#[ignore = "long: `make test-long` runs it"]
async fn a_route_that_another_gateway_has_is_the_named_link() -> Result<()> {
    let seen = comes_to_what_it_expects("tests/scenarios/tailnet/two-gateways.yaml").await?;
    let breaks: usize = seen.iter().map(|cause| cause.matches("the chain breaks").count()).sum();
    ensure!(breaks == 1, "of two gateways one routes and the other does not: {seen:?}");
    Ok(())
}

/// A control server that is not the run's own, known by URL, certificate and key alone: the way of
/// `--tailnet real`.
#[tokio::test]
#[ignore = "long: a cluster of its own; tests/tailnet.rs joins control servers by URL and key without VMs; `make test-long` runs it"]
async fn a_tailnet_of_the_users_own_is_joined_by_url_and_key() -> Result<()> {
    let file = "tests/scenarios/tailnet/real.yaml";
    let scenario = scenario::load(Path::new(file))?;
    let directory = tempfile::tempdir()?;
    let processes = Processes::new(directory.path().join("processes"))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = Programs::at_or_built(&root.join("target/images/tailnet"), &root.join("images"))?;
    let routes = ["10.96.0.0/12".parse()?, "10.244.0.0/16".parse()?];
    let control = ControlSpec {
        seen_from_nodes: "10.5.0.1".parse()?,
        transport: Transport::Https,
        approval: Approval::Automatic(routes.to_vec()),
    };
    let control = ControlServer::start(control, &programs, &processes, directory.path()).await?;
    let key = KeyOptions { reusable: true, tags: vec![GATEWAY_TAG.to_owned()], ..KeyOptions::default() };
    let access = control.access_from_host();
    let tailnet = RealTailnet {
        login_server: Some(access.url),
        authority: access.authority,
        key: control.create_key(&key).await?,
    };
    let options = SessionOptions { tailnet: Some(tailnet), ..options("real-tailnet") };
    let (verdict, _) = run_with(file, scenario, options).await?;
    ensure!(verdict.outcome == Outcome::Passed, "{:?}", verdict.outcome);
    let names: Vec<_> = control.nodes().await?.into_iter().map(|node| node.name).collect();
    ensure!(names.iter().any(|name| name == "gateway-1"), "the gateway joined another tailnet: {names:?}");
    control.stop().await;
    Ok(())
}

/// The key in the document of `planted-key.yaml`, without what a redaction may know it by.
const PLANTED: &str = "plantedCNTRL-0123456789";

#[tokio::test]
async fn no_artefact_of_a_run_holds_a_key() -> Result<()> {
    let file = "tests/scenarios/tailnet/planted-key.yaml";
    let scenario = scenario::load(Path::new(file))?;
    let _turn = turn(scenario.cluster.nodes.len()).await?;
    let session = Session::open(options("planted-key")).await?;
    let mut events = session.recorder().subscribe();
    let running = session.start(scenario::request(&scenario, WhenShort::WaitUpTo(MEMORY_PATIENCE))).await?;
    say_how_it_started(file, &mut events);
    let formed = running.cluster.form().await?;
    session.save_kubeconfig(&formed)?;
    let tailnet = running.cluster.tailnet().context("the cluster has a tailnet")?;
    let client = tailnet.outside_client(Duration::from_secs(300)).await?;
    let mut secrets = vec![PLANTED.to_owned()];
    secrets.extend(
        tailnet
            .control()
            .context("its own control server")?
            .issued_keys()
            .iter()
            .map(|key| key.reveal().to_owned()),
    );
    ensure!(secrets.len() >= 3, "one key for the gateway and one for the client");

    // While it runs: what the process lists of the host and of the gateway show.
    search(process_files(), &secrets)?;
    let gateway = running.cluster.plan().nodes.first().context("the gateway")?;
    let limit = Duration::from_secs(60);
    let since = Instant::now();
    // The service runs before its daemon does.
    let arguments = loop {
        let processes = running.cluster.connect(gateway).await?.processes(limit).await?;
        let arguments: Vec<_> = processes.into_iter().map(|process| process.arguments).collect();
        if arguments.iter().any(|line| line.contains("tailscaled")) {
            break arguments;
        }
        ensure!(since.elapsed() < limit, "no tailscaled among {arguments:?}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
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
