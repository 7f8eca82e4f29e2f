//! An experiment without a scenario file.

mod support;

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{experiment::Lab, scenario::checks::PodNetwork};
use lab_cluster::{kubernetes::is_ready, wait::Condition};
use lab_model::events::Outcome;
use lab_plan::cluster::ClusterSpec;
use support::{options, turn};

/// Time limit for Kubernetes to report a node as missing, and as Ready again, on the reference host.
const MISSED: Duration = Duration::from_secs(100);
const BACK: Duration = Duration::from_secs(180);

#[tokio::test]
#[ignore = "long: waits until Kubernetes misses a node; `make test-long` runs it"]
async fn a_worker_that_is_cut_off_is_missed_and_comes_back() -> Result<()> {
    let _turn = turn(2).await?;
    let lab = Lab::open(options("experiment")).await?;
    let result = cut_off_and_back(&lab).await;
    let outcome = match &result {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed { cause: format!("{error:#}") },
    };
    lab.close(outcome).await?;
    result
}

async fn cut_off_and_back(lab: &Lab) -> Result<()> {
    let cluster = lab.form(ClusterSpec::of_compute_nodes("experiment".parse()?, 1, 1)?).await?;
    let worker = cluster.node("worker-1")?;
    let network = PodNetwork { service: true, dns: false };

    cluster.check(network).await?;
    worker.cut_link()?;
    worker.wait_until(MISSED, is_ready().not("it is Ready")).await?;
    ensure!(cluster.check(network).await.is_err(), "pods of a worker that is cut off are reached");
    worker.restore_link()?;
    worker.wait_until(BACK, is_ready()).await?;
    cluster.check(network).await?;

    cluster.shut_down().await;
    Ok(())
}
