//! An extension service without its document blocks the boot. The check detects the block. Then either the
//! document releases the boot, or the node reboots by itself.

use std::time::{Duration, Instant};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::{FormedCluster, FormedNode, Hold},
    machine_api::Stage,
    wait::Wait,
};
use lab_model::{Diagnostic, node::NodeName};
use lab_plan::{
    cluster::{ClusterSpec, Patch},
    scenario::{CheckContext, CheckKind, RawPatch, Text, Words},
};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::{Check, CheckError, Fixtures, Observation, QUESTION, boot_id::boot_id, patient};

/// Extra time after the node's own limit for its reboot, on the reference host.
const GRACE: Duration = Duration::from_secs(90);

#[derive(Debug, Serialize)]
pub struct BootHold {
    pub node: NodeName,
    pub ends: HoldEnd,
}

/// How a boot ends that an extension service blocks.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldEnd {
    /// The check applies the document, and the boot continues without a reboot.
    Release { document: Patch },
    /// No document is applied, and the node reboots after its time limit.
    Reboot,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    node: Text,
    ends: WrittenEnd,
    #[serde(default)]
    document: Option<Spanned<RawPatch>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenEnd {
    Release,
    Reboot,
}

impl CheckKind for BootHold {
    const NAME: &'static str = "boot-hold";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let node = context.node(&written.node)?;
        let document = match &written.document {
            Some(document) => Some(context.patch(document)?),
            None => None,
        };
        let ends = match (written.ends, document) {
            (WrittenEnd::Release, Some(document)) => HoldEnd::Release { document },
            (WrittenEnd::Reboot, None) => HoldEnd::Reboot,
            (WrittenEnd::Release, None) => {
                let message = "what releases the boot is not said";
                context.report(Diagnostic::at(&written.node, message).help("give `document`"));
                return None;
            }
            (WrittenEnd::Reboot, Some(_)) => {
                let message = "a boot that ends in a reboot is not released";
                context.report(Diagnostic::at(&written.node, message).help("leave `document` out"));
                return None;
            }
        };
        Some(Self { node, ends })
    }

    fn words(&self, _: &ClusterSpec) -> Words {
        let (when, then) = match self.ends {
            HoldEnd::Release { .. } => {
                ("its document is applied", "the boot goes on at once and without a reboot")
            }
            HoldEnd::Reboot => ("no document is applied", "the node reboots when its time is up"),
        };
        let given =
            format!("the boot of {}, held up by an extension service without its document", self.node);
        Words::new(given, when, then)
    }

    fn nodes(&self) -> Vec<&NodeName> {
        vec![&self.node]
    }

    fn restarts_nodes(&self) -> bool {
        matches!(self.ends, HoldEnd::Reboot)
    }

    fn held_node(&self) -> Option<&NodeName> {
        Some(&self.node)
    }
}

impl Check for BootHold {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let (formed, node) = (fixtures.formed(), fixtures.formed().node(&self.node)?);
            let hold = held(formed, node).await?;
            seen.note(hold.kubernetes_ready, format!("{}: {hold}", self.node));
            match &self.ends {
                HoldEnd::Release { document } => release(formed, node, document, seen).await,
                HoldEnd::Reboot => reboots(formed, node, &hold, seen).await,
            }
        }
        .boxed()
    }
}

/// Why the check found no blocked boot.
enum NoHold {
    /// Nothing blocks the boot yet, and the boot has not finished.
    Unclear,
    /// The boot has finished.
    Running,
    /// A request to the node failed.
    Error(CheckError),
}

impl<E: Into<CheckError>> From<E> for NoHold {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Finds the cause of the blocked boot. Services are unhealthy for a short time after their start. Until all
/// other services are up, the cause is not certain.
async fn held(formed: &FormedCluster, node: FormedNode<'_>) -> Result<Hold, CheckError> {
    let name = node.name();
    let attempt = || async {
        if let Some(hold) = node.hold().await? {
            return Ok(hold);
        }
        let status = node.connect().await?.machine_status(QUESTION).await?;
        Err(if status.stage == Stage::Running { NoHold::Running } else { NoHold::Unclear })
    };
    let wait = patient(formed.plan().budgets.patience());
    match wait.retry_if(|why| matches!(why, NoHold::Unclear), attempt).await {
        Ok(hold) => Ok(hold),
        Err((_, NoHold::Error(error))) => Err(CheckError::of(name)(error)),
        Err((_, NoHold::Unclear | NoHold::Running)) => {
            Err(CheckError::seen(format!("{name}: nothing holds its boot sequence up")))
        }
    }
}

async fn release(
    formed: &FormedCluster,
    node: FormedNode<'_>,
    document: &Patch,
    seen: &mut Observation,
) -> Result<(), CheckError> {
    let name = node.name();
    let before = boot_id(node).await?;
    let client = node.connect().await?;
    let applied = Instant::now();
    formed.cluster().apply_late(node.plan(), &client, std::slice::from_ref(document)).await?;
    node.wait_ready().await?;
    seen.fact(format!(
        "{name}: green {:.1} s after its document was applied",
        applied.elapsed().as_secs_f64()
    ));
    let after = boot_id(node).await?;
    seen.note(
        before == after,
        if before == after {
            format!("{name}: the same boot went on ({after})")
        } else {
            format!("{name}: it rebooted on the way ({before}, now {after})")
        },
    );
    Ok(())
}

async fn reboots(
    formed: &FormedCluster,
    node: FormedNode<'_>,
    hold: &Hold,
    seen: &mut Observation,
) -> Result<(), CheckError> {
    let name = node.name();
    let before = boot_id(node).await?;
    let limit = hold.boot_timeout + formed.plan().budgets.on_this_host(GRACE);
    let started = Instant::now();
    // The node does not respond during the reboot. This is not an error.
    let attempt = || async {
        match boot_id(node).await {
            Ok(after) if after != before => Ok(after),
            Ok(_) => Err("it is in the same boot".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    match Wait::up_to(limit).retry(attempt).await {
        Ok(after) => {
            seen.fact(format!(
                "{name}: it rebooted by itself (boot {before}, now {after}), {:.0} s after the check began",
                started.elapsed().as_secs_f64()
            ));
            Ok(())
        }
        Err(_) => Err(CheckError::seen(format!("{name}: it did not reboot within {} s", limit.as_secs()))),
    }
}
