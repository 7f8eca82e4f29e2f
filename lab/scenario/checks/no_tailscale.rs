//! No node contains any part of Tailscale: no extension, service, process, interface or image.

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::Cluster,
    machine_api::{ApiError, ExtensionStatus, NodeClient},
};
use lab_model::node::Role;
use lab_plan::{
    cluster::{ClusterSpec, NodePlan},
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, QUESTION};

/// The name of every part of Tailscale contains this text.
const NAME: &str = "tailscale";

#[derive(Debug, Serialize)]
pub struct NoTailscale {
    /// Checks only nodes of this role.
    pub role: Option<Role>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    role: Option<Text>,
}

impl CheckKind for NoTailscale {
    const NAME: &'static str = "no-tailscale";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let role = match &written.role {
            Some(text) => Some(context.role(text)?),
            None => None,
        };
        Some(Self { role })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            Words::formed(cluster),
            "images, services, processes and interfaces of every node are searched",
            match &self.role {
                None => "there is no Tailscale anywhere".to_owned(),
                Some(role) => format!("there is no Tailscale on any {role} node"),
            },
        )
    }
}

impl Check for NoTailscale {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let nodes = fixtures.cluster().plan().nodes.iter();
            for node in nodes.filter(|node| self.role.as_ref().is_none_or(|role| node.spec.role == *role)) {
                let name = node.spec.name.as_str();
                match places(fixtures.cluster(), node).await {
                    Ok(places) => judge(name, &places, seen),
                    Err(error) => seen.problem(format!("{name}: {error}")),
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// A kind of place that the check searches for Tailscale, and the names that it found there.
struct SearchedPlace {
    what: &'static str,
    found: Vec<String>,
    /// A running node always has entries here. An empty list means that the search failed.
    never_empty: bool,
}

async fn places(cluster: &Cluster, node: &NodePlan) -> Result<Vec<SearchedPlace>, ApiError> {
    let client = cluster.connect(node).await?;
    let services = client.services(QUESTION).await?;
    let processes = client.processes(QUESTION).await?;
    Ok(vec![
        SearchedPlace { what: "extensions", found: extensions(&client).await?, never_empty: false },
        SearchedPlace {
            what: "services",
            found: services.into_iter().map(|service| service.id).collect(),
            never_empty: true,
        },
        SearchedPlace {
            what: "processes",
            found: processes.into_iter().map(|p| format!("{} {}", p.command, p.arguments)).collect(),
            never_empty: true,
        },
        SearchedPlace { what: "interfaces", found: interfaces(&client).await?, never_empty: true },
        // The list is empty on a node that has never run a pod. Kubernetes learns the images of a node
        // minutes later.
        SearchedPlace { what: "container images", found: client.images(QUESTION).await?, never_empty: false },
    ])
}

async fn extensions(client: &NodeClient) -> Result<Vec<String>, ApiError> {
    let resources = client.list("runtime", "ExtensionStatuses.runtime.talos.dev", QUESTION).await?;
    Ok(resources
        .iter()
        .map(|resource| match resource.view::<ExtensionStatus>() {
            Ok(extension) => extension.metadata.name,
            Err(_) => resource.id.clone(),
        })
        .collect())
}

async fn interfaces(client: &NodeClient) -> Result<Vec<String>, ApiError> {
    let resources = client.list("network", "LinkStatuses.net.talos.dev", QUESTION).await?;
    Ok(resources.into_iter().map(|resource| resource.id).collect())
}

fn judge(node: &str, places: &[SearchedPlace], observation: &mut Observation) {
    for place in places {
        let hits: Vec<_> = place.found.iter().filter(|text| text.to_lowercase().contains(NAME)).collect();
        for hit in &hits {
            observation.problem(format!("{node}: Tailscale among its {}: {hit}", place.what));
        }
        if place.never_empty && place.found.is_empty() {
            observation.problem(format!("{node}: it names no {} at all, so nothing is known", place.what));
        } else if hits.is_empty() {
            observation.fact(format!("{node}: no Tailscale among {} {}", place.found.len(), place.what));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(found: &[&str], never_empty: bool) -> Observation {
        let mut observation = Observation::default();
        let found = found.iter().map(|text| (*text).to_owned()).collect();
        judge("n", &[SearchedPlace { what: "processes", found, never_empty }], &mut observation);
        observation
    }

    #[test]
    fn a_tailscale_process_is_found_whatever_its_letters() {
        assert!(judged(&["kubelet", "/usr/local/bin/Tailscaled --tun"], true).cause().is_some());
        assert_eq!(judged(&["kubelet"], true).cause(), None);
    }

    #[test]
    fn an_empty_process_list_is_no_proof() {
        assert!(judged(&[], true).cause().is_some());
    }
}
