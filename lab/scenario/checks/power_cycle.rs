//! After a power loss, a node becomes Ready again with the same identity.
//!
//! The kernel's boot id proves the restart, because each boot has a new id. The node itself reports the id.
//! The state in Kubernetes counts only if it refers to the new boot: after the power loss, the Node object
//! keeps the state of the previous boot for some time. The machine id and the UID of the Kubernetes Node
//! prove the identity.

use std::time::Instant;

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    kubernetes::{KubernetesApi, NodeFacts, has_boot_id, is_ready, node_facts},
    wait::{Condition, Wait},
};
use lab_model::{events::Step, node::NodeName};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, boot_id::boot_id};

#[derive(Debug, Serialize)]
pub struct PowerCycle {
    pub node: NodeName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    node: Text,
}

impl CheckKind for PowerCycle {
    const NAME: &'static str = "power-cycle";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(Self { node: context.node(&written.node)? })
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
            let before = Boot { id: boot_id(node).await?, node: facts(api, name).await? };
            let started = Instant::now();
            node.power_cycle().await?;
            let id = boot_id(node).await?;
            // If the deadline expires, the comparison reports what is missing.
            let of_this_boot = has_boot_id(id.clone()).and(is_ready());
            let limit = fixtures.formed().plan().budgets.limit(Step::Ready);
            let _ = Wait::up_to(limit).on(node_facts(api, name.as_str()), of_this_boot).await;
            let after = Boot { id, node: facts(api, name).await? };
            compare(&before, &after, seen);
            seen.fact(format!(
                "{name}: green again {:.1} s after its power was cut",
                started.elapsed().as_secs_f64()
            ));
            Ok(())
        }
        .boxed()
    }
}

struct Boot {
    /// The boot id that the node reports.
    id: String,
    /// The node state in Kubernetes.
    node: NodeFacts,
}

async fn facts(api: &KubernetesApi, name: &NodeName) -> Result<NodeFacts, CheckError> {
    match api.node(name.as_str()).await.map_err(CheckError::of(name))? {
        Some(facts) => Ok(facts),
        None => Err(CheckError::seen(format!("{name}: Kubernetes does not know it"))),
    }
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
    fn what_kubernetes_says_of_the_boot_before_is_no_evidence() {
        let mut slow = boot("u", "m", "2");
        slow.node.boot_id = "1".into();
        let cause = judged(&boot("u", "m", "1"), &slow).expect("no evidence of the new boot");
        assert_eq!(cause, "worker-2: it is in boot 2, and Kubernetes still reports boot 1");
    }
}
