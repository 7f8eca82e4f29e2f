//! Every node reports the processor architecture that is expected, to Kubernetes and over the
//! machine API.

use lab_cluster::formation::FormedCluster;

use super::{Observation, QUESTION};
use crate::scenario::Architecture;

pub(super) async fn look(formed: &FormedCluster, expected: Architecture) -> Observation {
    let mut observation = Observation::default();
    let (cluster, api) = (formed.cluster(), formed.kubernetes());
    for node in &cluster.plan().nodes {
        let name = node.spec.name.as_str();
        match api.node(name).await {
            Ok(Some(facts)) => observation.note(
                facts.architecture == expected.as_str(),
                format!("{name}: kubelet reports {}", facts.architecture),
            ),
            Ok(None) => observation.problem(format!("{name}: Kubernetes does not know it")),
            Err(error) => observation.problem(format!("{name}: {error}")),
        }
        let version = match cluster.connect(node).await {
            Ok(client) => client.version(QUESTION).await,
            Err(error) => Err(error),
        };
        match version {
            Ok(version) => observation.note(
                version.architecture == expected.as_str(),
                format!("{name}: the machine API reports {} ({})", version.architecture, version.tag),
            ),
            Err(error) => observation.problem(format!("{name}: {error}")),
        }
    }
    observation
}
