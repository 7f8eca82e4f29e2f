//! A boot that an extension service without its document holds up: recognised, and then either
//! released by the document or ended by the node's own reboot.

use std::time::{Duration, Instant};

use super::{Observation, QUESTION, attempts::Attempts};
use crate::scenario::HoldEnd;
use lab_cluster::{
    formation::{Cluster, Hold},
    machine_api::{ApiError, Stage},
};
use lab_model::node::NodeName;
use lab_plan::cluster::NodePlan;

/// How long after the node's own limit its reboot may be seen, on the reference host.
const GRACE: Duration = Duration::from_secs(90);
/// Pause between two looks at the boot id.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The kernel's id of the present boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) async fn look(cluster: &Cluster, name: &NodeName, ends: &HoldEnd) -> Observation {
    let mut observation = Observation::default();
    let Some(node) = cluster.plan().node(name) else {
        observation.problem(format!("the plan has no node {name}"));
        return observation;
    };
    let seen = match ends {
        HoldEnd::Release { document } => {
            let release = Release { cluster, node };
            release.look(std::slice::from_ref(document), &mut observation).await
        }
        HoldEnd::Reboot => reboots(cluster, node, &mut observation).await,
    };
    if let Err(cause) = seen {
        observation.problem(cause);
    }
    observation
}

/// What holds the boot up. Services that have just started are unhealthy for a moment, and as long as
/// others are not up it cannot be told which one it is.
async fn held(cluster: &Cluster, node: &NodePlan) -> Result<Hold, String> {
    let name = &node.spec.name;
    let said = |error: ApiError| format!("{name}: {error}");
    let mut tries = Attempts::patient(cluster.plan().budgets.patience());
    while tries.another().await {
        if let Some(hold) = cluster.hold(node).await.map_err(said)? {
            return Ok(hold);
        }
        let client = cluster.connect(node).await.map_err(said)?;
        if client.machine_status(QUESTION).await.map_err(said)?.stage == Stage::Running {
            break;
        }
    }
    Err(format!("{name}: nothing holds its boot sequence up"))
}

async fn boot_id(cluster: &Cluster, node: &NodePlan) -> Result<String, String> {
    let client = cluster.connect(node).await.map_err(|error| error.to_string())?;
    let id = client.read_file(BOOT_ID, QUESTION).await.map_err(|error| error.to_string())?;
    Ok(id.trim().to_owned())
}

struct Release<'a> {
    cluster: &'a Cluster,
    node: &'a NodePlan,
}

impl Release<'_> {
    async fn look(
        &self,
        documents: &[lab_plan::cluster::Patch],
        observation: &mut Observation,
    ) -> Result<(), String> {
        let (cluster, node, name) = (self.cluster, self.node, &self.node.spec.name);
        let hold = held(cluster, node).await?;
        observation.note(hold.kubernetes_ready, format!("{name}: {hold}"));
        let before = boot_id(cluster, node).await?;
        let client = cluster.connect(node).await.map_err(|error| error.to_string())?;
        let applied = Instant::now();
        cluster.apply_late(node, &client, documents).await.map_err(|cause| cause.to_string())?;
        cluster.wait_green(node).await.map_err(|failure| failure.to_string())?;
        observation.fact(format!(
            "{name}: green {:.1} s after its document was applied",
            applied.elapsed().as_secs_f64()
        ));
        let after = boot_id(cluster, node).await?;
        observation.note(
            before == after,
            if before == after {
                format!("{name}: the same boot went on ({after})")
            } else {
                format!("{name}: it rebooted on the way ({before}, now {after})")
            },
        );
        Ok(())
    }
}

async fn reboots(cluster: &Cluster, node: &NodePlan, observation: &mut Observation) -> Result<(), String> {
    let name = &node.spec.name;
    let hold = held(cluster, node).await?;
    observation.note(hold.kubernetes_ready, format!("{name}: {hold}"));
    let before = boot_id(cluster, node).await?;
    let limit = hold.boot_timeout + cluster.plan().budgets.on_this_host(GRACE);
    let started = Instant::now();
    while started.elapsed() < limit {
        tokio::time::sleep(LOOK_AGAIN).await;
        // While it reboots nobody answers, and that is no news yet.
        if let Ok(after) = boot_id(cluster, node).await
            && after != before
        {
            observation.fact(format!(
                "{name}: it rebooted by itself (boot {before}, now {after}), {:.0} s after the check began",
                started.elapsed().as_secs_f64()
            ));
            return Ok(());
        }
    }
    Err(format!("{name}: it did not reboot within {} s", limit.as_secs()))
}
