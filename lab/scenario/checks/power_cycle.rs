//! A node that loses power comes back Ready with the same identity.
//!
//! That it really was away shows in the kernel's boot id, which is new at each boot; that it is
//! the same node shows in its machine id and in the UID of its Kubernetes Node.

use lab_cluster::{
    formation::FormedCluster,
    kubernetes::{KubernetesApi, NodeFacts},
};
use lab_model::node::NodeName;

use super::{Observation, text};

pub(super) async fn look(formed: &FormedCluster, name: &NodeName) -> Observation {
    let mut observation = Observation::default();
    if let Err(cause) = cycle(formed, name, &mut observation).await {
        observation.problem(cause);
    }
    observation
}

async fn cycle(formed: &FormedCluster, name: &NodeName, observation: &mut Observation) -> Result<(), String> {
    let api = formed.kubernetes();
    let node = formed.node(name).map_err(text)?;
    let before = facts(api, name).await?;
    let started = std::time::Instant::now();
    node.power_cycle().await.map_err(text)?;
    let after = facts(api, name).await?;
    compare(&before, &after, observation);
    observation.fact(format!(
        "{name}: green again {:.1} s after its power was cut",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

async fn facts(api: &KubernetesApi, name: &NodeName) -> Result<NodeFacts, String> {
    match api.node(name.as_str()).await {
        Ok(Some(facts)) => Ok(facts),
        Ok(None) => Err(format!("{name}: Kubernetes does not know it")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

fn compare(before: &NodeFacts, after: &NodeFacts, observation: &mut Observation) {
    let name = &before.name;
    observation.note(
        !after.boot_id.is_empty() && before.boot_id != after.boot_id,
        format!("{name}: boot id {} became {}", before.boot_id, after.boot_id),
    );
    for (what, old, new) in
        [("machine id", &before.machine_id, &after.machine_id), ("Node UID", &before.uid, &after.uid)]
    {
        let same = !old.is_empty() && old == new;
        observation.note(
            same,
            if same {
                format!("{name}: {what} is still {old}")
            } else {
                format!("{name}: {what} was {old} and is {new}")
            },
        );
    }
    observation.note(after.readiness.ready, format!("{name}: {}", after.readiness.reason));
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_cluster::kubernetes::NodeReadiness as Readiness;

    fn node(uid: &str, machine: &str, boot: &str) -> NodeFacts {
        NodeFacts {
            name: "worker-2".into(),
            uid: uid.into(),
            readiness: Readiness { ready: true, reason: "KubeletReady".into(), message: String::new() },
            architecture: "arm64".into(),
            machine_id: machine.into(),
            boot_id: boot.into(),
            kubelet_version: "v1.34.2".into(),
            os_image: String::new(),
        }
    }

    fn judged(before: &NodeFacts, after: &NodeFacts) -> Option<String> {
        let mut observation = Observation::default();
        compare(before, after, &mut observation);
        observation.cause()
    }

    #[test]
    fn a_reboot_keeps_identity_and_changes_the_boot_id() {
        assert_eq!(judged(&node("u", "m", "1"), &node("u", "m", "2")), None);
    }

    #[test]
    fn each_way_of_not_being_the_same_rebooted_node_fails() {
        let before = node("u", "m", "1");
        for after in [node("u", "m", "1"), node("v", "m", "2"), node("u", "n", "2"), node("u", "", "2")] {
            assert!(judged(&before, &after).is_some(), "{after:?}");
        }
        let mut unready = node("u", "m", "2");
        unready.readiness.ready = false;
        assert!(judged(&before, &unready).is_some());
    }
}
