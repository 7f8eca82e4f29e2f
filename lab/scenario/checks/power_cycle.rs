//! After a power loss, a node becomes Ready again with the same identity.
//!
//! The kernel's boot id proves the restart, because each boot has a new id. The node itself reports the id.
//! The state in Kubernetes counts only if it refers to the new boot: after the power loss, the Node object
//! keeps the state of the previous boot for some time. The machine id and the UID of the Kubernetes Node
//! prove the identity.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::FormedNode,
    kubernetes::{KubernetesApi, NodeFacts, SystemPods, has_boot_id, is_ready, node_facts},
    machine_api::NodeClient,
    wait::{Condition, PollError, Wait},
};
use lab_model::{events::Step, node::NodeName};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, QUESTION, boot_id::boot_id, patient};

/// Data that the node's kernel holds and has not written to the disk, below which power can be cut. The node
/// writes its own logs all the time.
const UNWRITTEN_KIB: u64 = 4096;
/// Time for a node to write its data to the disk, on the reference host. Linux writes data that is older than
/// 30 s, and looks every 5 s (`vm.dirty_expire_centisecs`, `vm.dirty_writeback_centisecs`).
const WRITE_BACK: Duration = Duration::from_secs(60);
/// Interval between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PowerCycle {
    pub node: NodeName,
    /// Cuts the power at once, even if the node has data in memory that is not on its disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Written {
    node: Text,
    #[serde(default)]
    at_once: bool,
}

impl CheckKind for PowerCycle {
    const NAME: &'static str = "power-cycle";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(Self { node: context.node(&written.node)?, at_once: written.at_once })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            Words::formed(cluster),
            format!("{} loses power and is started again", self.node),
            "it is Ready again with the same identity",
        )
    }

    fn nodes(&self) -> Vec<&NodeName> {
        vec![&self.node]
    }

    fn restarts_nodes(&self) -> bool {
        true
    }
}

impl Check for PowerCycle {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let (api, name) = (fixtures.api(), &self.node);
            let node = fixtures.formed().node(name)?;
            // An API server under load refuses connections for some time, and a restart of a node is load.
            let wait = patient(fixtures.formed().plan().budgets.patience());
            let before = Boot { id: boot_id(node).await?, node: facts(api, name, &wait).await? };
            let network_before = system_pods(api, &wait, name).await?.network_containers_on(name.as_str());
            let unwritten = match self.at_once {
                true => Unwritten::of(&node.connect().await?).await?,
                false => write_back(node, fixtures.formed().plan().budgets.on_this_host(WRITE_BACK)).await?,
            };
            seen.fact(format!("{name}: power is cut with {unwritten} in memory that are not on its disk"));
            let started = Instant::now();
            node.power_cycle().await?;
            let id = boot_id(node).await?;
            // If the deadline expires, the comparison reports what is missing.
            let of_this_boot = has_boot_id(id.clone()).and(is_ready());
            let limit = fixtures.formed().plan().budgets.limit(Step::Ready);
            let _ = Wait::up_to(limit).on(node_facts(api, name.as_str()), of_this_boot).await;
            let after = Boot { id, node: facts(api, name, &wait).await? };
            compare(&before, &after, seen);
            seen.fact(format!(
                "{name}: green again {:.1} s after its power was cut",
                started.elapsed().as_secs_f64()
            ));
            if after.node.readiness.ready && after.node.boot_id == after.id {
                match network_back(api, name, &network_before, limit, &wait).await {
                    Ok(()) => seen.fact(format!(
                        "{name}: its pod network works again {:.1} s after its power was cut",
                        started.elapsed().as_secs_f64()
                    )),
                    Err(PollError::Probe(error)) => return Err(error),
                    Err(PollError::Expired(waiting)) => {
                        seen.problem(format!("{name}: its pod network does not come back: {waiting}"));
                    }
                }
            }
            let system = system_pods(api, &wait, name).await?;
            for crash in system.crashing_on(name.as_str()) {
                seen.problem(format!(
                    "{crash}; its image may be damaged: {unwritten} of the node were not on its disk when its power \
                     was cut"
                ));
            }
            Ok(())
        }
        .boxed()
    }
}

/// The data that a node's kernel holds in memory and has not written to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unwritten {
    kib: u64,
}

impl Unwritten {
    async fn of(client: &NodeClient) -> Result<Self, CheckError> {
        let text = client.read_file("/proc/meminfo", QUESTION).await?;
        let lacks = || CheckError::seen("the node's /proc/meminfo tells no dirty pages");
        Self::parse(&text).ok_or_else(lacks)
    }

    /// Adds up the lines `Dirty` and `Writeback` of `/proc/meminfo`.
    fn parse(text: &str) -> Option<Self> {
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self { kib: kib("Dirty")?.saturating_add(kib("Writeback")?) })
    }
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB", self.kib)
    }
}

/// Waits until the node has written its data to the disk: files that were unpacked or written moments ago
/// exist only in its memory, and would be damaged. Returns what is left when the time is over.
async fn write_back(node: FormedNode<'_>, limit: Duration) -> Result<Unwritten, CheckError> {
    let client = node.connect().await?;
    let written = |left: &Unwritten| match left.kib <= UNWRITTEN_KIB {
        true => Ok(()),
        false => Err(left.to_string()),
    };
    let wait = Wait::up_to(limit).every(LOOK_AGAIN);
    match wait.poll(async || Unwritten::of(&client).await, written).await {
        Ok(left) => Ok(left),
        Err(PollError::Probe(error)) => Err(error),
        Err(PollError::Expired(_)) => Unwritten::of(&client).await,
    }
}

struct Boot {
    /// The boot id that the node reports.
    id: String,
    /// The node state in Kubernetes.
    node: NodeFacts,
}

async fn facts(api: &KubernetesApi, name: &NodeName, wait: &Wait) -> Result<NodeFacts, CheckError> {
    let answered = wait.retry_if(|_| true, || api.node(name.as_str())).await;
    match answered.map_err(|(_, error)| CheckError::of(name)(error))? {
        Some(facts) => Ok(facts),
        None => Err(CheckError::seen(format!("{name}: Kubernetes does not know it"))),
    }
}

/// Waits until the pods of the pod network on the node run again, with other containers than `before`. Until then, a pod
/// that gets to the node has no network, and kubelet tries it again a minute later. Returns what is missing when the time
/// is over.
async fn network_back(
    api: &KubernetesApi,
    name: &NodeName,
    before: &BTreeSet<String>,
    limit: Duration,
    patience: &Wait,
) -> Result<(), PollError<CheckError>> {
    let is_back = |system: &SystemPods| {
        let waiting = system.network_not_back_on(name.as_str(), before);
        if waiting.is_empty() { Ok(()) } else { Err(waiting.join("; ")) }
    };
    let look = async || system_pods(api, patience, name).await;
    Wait::up_to(limit).every(LOOK_AGAIN).poll(look, is_back).await.map(drop)
}

async fn system_pods(api: &KubernetesApi, wait: &Wait, name: &NodeName) -> Result<SystemPods, CheckError> {
    let answered = wait.retry_if(|_| true, || api.system_pods(QUESTION)).await;
    answered.map_err(|(_, error)| CheckError::of(name)(error))
}

fn compare(before: &Boot, after: &Boot, seen: &mut Observation) {
    let name = &before.node.name;
    seen.note(
        !after.id.is_empty() && before.id != after.id,
        format!("{name}: boot id {} became {}", before.id, after.id),
    );
    if after.node.boot_id != after.id {
        // The other facts in Kubernetes refer to another boot.
        return seen.problem(format!(
            "{name}: it is in boot {}, and Kubernetes still reports boot {}",
            after.id, after.node.boot_id
        ));
    }
    let (before, after) = (&before.node, &after.node);
    for (what, old, new) in
        [("machine id", &before.machine_id, &after.machine_id), ("Node UID", &before.uid, &after.uid)]
    {
        let same = !old.is_empty() && old == new;
        seen.note(
            same,
            if same {
                format!("{name}: {what} is still {old}")
            } else {
                format!("{name}: {what} was {old} and is {new}")
            },
        );
    }
    seen.note(after.readiness.ready, format!("{name}: {}", after.readiness.reason));
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_cluster::kubernetes::NodeReadiness as Readiness;

    /// A boot that Kubernetes has recorded.
    fn boot(uid: &str, machine: &str, id: &str) -> Boot {
        let node = NodeFacts {
            name: "worker-2".into(),
            uid: uid.into(),
            readiness: Readiness { ready: true, reason: "KubeletReady".into(), message: String::new() },
            architecture: "arm64".into(),
            machine_id: machine.into(),
            boot_id: id.into(),
            kubelet_version: "v1.34.2".into(),
            os_image: String::new(),
        };
        Boot { id: id.into(), node }
    }

    fn judged(before: &Boot, after: &Boot) -> Option<String> {
        let mut seen = Observation::default();
        compare(before, after, &mut seen);
        seen.cause()
    }

    #[test]
    fn a_reboot_keeps_identity_and_changes_the_boot_id() {
        assert_eq!(judged(&boot("u", "m", "1"), &boot("u", "m", "2")), None);
    }

    #[test]
    fn each_way_of_not_being_the_same_rebooted_node_fails() {
        let before = boot("u", "m", "1");
        for after in [boot("u", "m", "1"), boot("v", "m", "2"), boot("u", "n", "2"), boot("u", "", "2")] {
            assert!(judged(&before, &after).is_some(), "{:?}", after.node);
        }
        let mut unready = boot("u", "m", "2");
        unready.node.readiness.ready = false;
        assert!(judged(&before, &unready).is_some());
    }

    #[test]
    fn data_that_is_not_on_the_disk_is_read_from_meminfo() {
        let text = "MemTotal:  2012345 kB\nDirty:             81234 kB\nWriteback:           512 kB\nWritebackTmp: 7 kB\n";
        assert_eq!(Unwritten::parse(text), Some(Unwritten { kib: 81746 }));
        assert_eq!(Unwritten::parse("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn what_kubernetes_says_of_the_boot_before_is_no_evidence() {
        let mut slow = boot("u", "m", "2");
        slow.node.boot_id = "1".into();
        let cause = judged(&boot("u", "m", "1"), &slow).expect("no evidence of the new boot");
        assert_eq!(cause, "worker-2: it is in boot 2, and Kubernetes still reports boot 1");
    }
}
