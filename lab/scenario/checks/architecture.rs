//! Every node reports the expected processor architecture to Kubernetes and in the machine API.

use futures::{FutureExt, future::BoxFuture};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, QUESTION};

#[derive(Debug, Serialize)]
pub struct Architecture {
    /// The architecture that every node must report.
    pub is: ArchitectureName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    is: Option<ArchitectureName>,
}

/// A processor architecture in the spelling of Kubernetes (`status.nodeInfo.architecture`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchitectureName {
    #[default]
    Arm64,
    Amd64,
}

impl ArchitectureName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::Amd64 => "amd64",
        }
    }
}

impl CheckKind for Architecture {
    const NAME: &'static str = "architecture";
    type Written = Written;

    fn read(written: Written, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(Self { is: written.is.unwrap_or_default() })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            Words::formed(cluster),
            "Kubernetes is asked for the nodes' architecture",
            format!("every node says {}", self.is.as_str()),
        )
    }
}

impl Check for Architecture {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let (cluster, api) = (fixtures.cluster(), fixtures.api());
            for node in &cluster.plan().nodes {
                let name = node.spec.name.as_str();
                match api.node(name).await {
                    Ok(Some(facts)) => seen.note(
                        facts.architecture == self.is.as_str(),
                        format!("{name}: kubelet reports {}", facts.architecture),
                    ),
                    Ok(None) => seen.problem(format!("{name}: Kubernetes does not know it")),
                    Err(error) => seen.problem(format!("{name}: {error}")),
                }
                let version = match cluster.connect(node).await {
                    Ok(client) => client.version(QUESTION).await,
                    Err(error) => Err(error),
                };
                match version {
                    Ok(version) => seen.note(
                        version.architecture == self.is.as_str(),
                        format!("{name}: the machine API reports {} ({})", version.architecture, version.tag),
                    ),
                    Err(error) => seen.problem(format!("{name}: {error}")),
                }
            }
            Ok(())
        }
        .boxed()
    }
}
