//! Every node is ready in all three layers. The check queries each source again.

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{formation::Cluster, kubernetes::KubernetesApi, machine_api::Stage};
use lab_plan::{
    cluster::{ClusterSpec, NodePlan},
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, QUESTION, patient};

/// The check has no parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayersGreen {}

impl CheckKind for LayersGreen {
    const NAME: &'static str = "layers-green";
    type Written = Self;

    fn read(written: Self, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(written)
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            format!("{} with their machine configs", Words::count_nodes(cluster)),
            "the cluster forms",
            "every node is green in boot sequence, services and Kubernetes",
        )
    }
}

impl Check for LayersGreen {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            // A loaded node can miss one health check, so a look that is not green is repeated. The last look counts.
            let wait = patient(fixtures.cluster().plan().budgets.patience());
            let look = async || {
                let mut look = Observation::default();
                for node in &fixtures.cluster().plan().nodes {
                    machine_layers(fixtures.cluster(), node, &mut look).await;
                    kubernetes_layer(fixtures.api(), node, &mut look).await;
                }
                match fixtures.api().system_pods(QUESTION).await {
                    Ok(system) => system.crashing().into_iter().for_each(|crash| look.problem(crash)),
                    Err(error) => look.problem(error),
                }
                if look.has_problems() { Err(look) } else { Ok(look) }
            };
            seen.merge(wait.retry_if(|_| true, look).await.unwrap_or_else(|(_, last)| last));
            Ok(())
        }
        .boxed()
    }
}

async fn machine_layers(cluster: &Cluster, node: &NodePlan, observation: &mut Observation) {
    let name = &node.spec.name;
    let client = match cluster.connect(node).await {
        Ok(client) => client,
        Err(error) => return observation.problem(format!("{name}: {error}")),
    };
    match client.machine_status(QUESTION).await {
        Ok(status) => observation.note(
            status.stage == Stage::Running && status.status.ready,
            format!("{name}: boot sequence is in stage {:?}, ready: {}", status.stage, status.status.ready),
        ),
        Err(error) => observation.problem(format!("{name}: {error}")),
    }
    match client.services(QUESTION).await {
        Ok(services) => {
            let down: Vec<_> = services.iter().filter(|service| !service.is_up()).collect();
            for service in services.iter().filter(|service| service.keeps_restarting) {
                observation.problem(format!(
                    "{name}: {} does not stay up: restarted {} times; {}",
                    service.id, service.restarts, service.last_end
                ));
            }
            for service in &down {
                observation
                    .problem(format!("{name}: {} is {}: {}", service.id, service.state, service.message));
            }
            if down.is_empty() {
                let names: Vec<_> = services.iter().map(|service| service.id.as_str()).collect();
                observation.note(!names.is_empty(), format!("{name}: services up: {}", names.join(" ")));
            }
        }
        Err(error) => observation.problem(format!("{name}: {error}")),
    }
}

async fn kubernetes_layer(api: &KubernetesApi, node: &NodePlan, observation: &mut Observation) {
    let name = &node.spec.name;
    match api.node(name.as_str()).await {
        Ok(Some(facts)) => observation.note(
            facts.readiness.ready,
            format!(
                "{name}: Kubernetes says {} ({}), kubelet {}",
                if facts.readiness.ready { "Ready" } else { "not Ready" },
                facts.readiness.reason,
                facts.kubelet_version
            ),
        ),
        Ok(None) => observation.problem(format!("{name}: Kubernetes does not know it")),
        Err(error) => observation.problem(format!("{name}: {error}")),
    }
}
