//! Every node runs the contents of its role's image. The image gives the expected state, the node the actual
//! state.

use std::collections::BTreeSet;

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::Cluster,
    machine_api::{ApiError, ExtensionStatus},
};
use lab_image::Contents;
use lab_plan::{
    cluster::{ClusterSpec, NodePlan},
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, QUESTION};

/// The containerd configuration of a node, including the parts of all extensions (Talos,
/// constants.CRIConfig).
const CRI_CONFIG: &str = "/etc/cri/conf.d/cri.toml";
/// Layers that Talos lists as extensions but that are not extensions.
const PSEUDO: [&str; 2] = ["modules.dep", "schematic"];

/// The check has no parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {}

impl CheckKind for Roles {
    const NAME: &'static str = "roles";
    type Written = Self;

    fn read(written: Self, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(written)
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            Words::formed(cluster),
            "each node is compared with the image of its role",
            "it runs exactly what that image holds",
        )
    }
}

impl Check for Roles {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let plan = fixtures.cluster().plan();
            for node in &plan.nodes {
                match actual(fixtures.cluster(), node).await {
                    Ok(actual) => {
                        let others = plan.nodes.iter().filter(|other| other.spec.role != node.spec.role);
                        let others: Vec<_> = others
                            .map(|other| (other.spec.role.as_str(), Traits::of(&other.image.contents)))
                            .collect();
                        let expected = Traits::of(&node.image.contents);
                        let node = RoleNode { name: node.spec.name.as_str(), role: node.spec.role.as_str() };
                        judge(&node, &expected, &actual, &others, seen);
                    }
                    Err(error) => seen.problem(format!("{}: {error}", node.spec.name)),
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// The properties that distinguish images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Traits {
    extensions: BTreeSet<String>,
    services: BTreeSet<String>,
    handlers: BTreeSet<String>,
}

struct RoleNode<'a> {
    name: &'a str,
    role: &'a str,
}

impl Traits {
    fn of(contents: &Contents) -> Self {
        Self {
            extensions: contents
                .extensions
                .iter()
                .map(|extension| format!("{} {}", extension.name, extension.version))
                .collect(),
            services: contents.services.iter().map(|service| service.id.clone()).collect(),
            handlers: distinguishing(contents.runtime_handlers.iter().cloned()),
        }
    }

    fn each(&self) -> [(&'static str, &BTreeSet<String>); 3] {
        [
            ("extensions", &self.extensions),
            ("extension services", &self.services),
            ("runtime handlers", &self.handlers),
        ]
    }
}

async fn actual(cluster: &Cluster, node: &NodePlan) -> Result<Traits, ApiError> {
    let client = cluster.connect(node).await?;
    let extensions = client.list("runtime", "ExtensionStatuses.runtime.talos.dev", QUESTION).await?;
    let services = client.services(QUESTION).await?;
    let config = client.read_file(CRI_CONFIG, QUESTION).await?;
    Ok(Traits {
        extensions: extensions
            .iter()
            .filter_map(|resource| resource.view::<ExtensionStatus>().ok())
            .filter(|extension| !PSEUDO.contains(&extension.metadata.name.as_str()))
            .map(|extension| format!("{} {}", extension.metadata.name, extension.metadata.version))
            .collect(),
        services: services
            .into_iter()
            .map(|service| service.id)
            .filter(|id| id.starts_with("ext-"))
            .collect(),
        handlers: handlers(&config),
    })
}

/// Drops `runc`: every node has it, but only Talos declares it in its root file system
/// (`/etc/cri/conf.d/00-base.part`).
fn distinguishing(handlers: impl Iterator<Item = String>) -> BTreeSet<String> {
    handlers.filter(|name| name != "runc").collect()
}

/// The runtime handlers of a containerd configuration that distinguish images.
fn handlers(config: &str) -> BTreeSet<String> {
    let Ok(config) = config.parse::<toml::Table>() else {
        return BTreeSet::new();
    };
    let plugins = config.get("plugins").and_then(toml::Value::as_table);
    let runtimes = plugins
        .into_iter()
        .flatten()
        .filter_map(|(_, plugin)| plugin.get("containerd")?.get("runtimes")?.as_table());
    distinguishing(runtimes.flat_map(|runtimes| runtimes.keys().cloned()))
}

fn judge(
    node: &RoleNode<'_>,
    expected: &Traits,
    actual: &Traits,
    others: &[(&str, Traits)],
    observation: &mut Observation,
) {
    let name = node.name;
    for ((what, wanted), (_, found)) in expected.each().into_iter().zip(actual.each()) {
        let list = |set: BTreeSet<&String>| set.into_iter().cloned().collect::<Vec<_>>().join(", ");
        let missing: BTreeSet<_> = wanted.difference(found).collect();
        let extra: BTreeSet<_> = found.difference(wanted).collect();
        if missing.is_empty() && extra.is_empty() {
            let text = if found.is_empty() { "none".to_owned() } else { list(found.iter().collect()) };
            observation.fact(format!("{name} ({}): {what} as in its image: {text}", node.role));
        }
        if !missing.is_empty() {
            observation.problem(format!("{name} ({}): {what} missing: {}", node.role, list(missing)));
        }
        if !extra.is_empty() {
            observation.problem(format!(
                "{name} ({}): {what} that its image does not have: {}",
                node.role,
                list(extra)
            ));
        }
    }
    if actual != expected
        && let Some((role, _)) = others.iter().find(|(_, other)| other == actual)
    {
        observation.problem(format!("{name} runs a {role} image although its role is {}", node.role));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(extensions: &[&str], services: &[&str], handlers: &[&str]) -> Traits {
        let set = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        Traits { extensions: set(extensions), services: set(services), handlers: set(handlers) }
    }

    fn compute() -> Traits {
        traits(&["drbd 8.4.11", "spin 0.1"], &[], &["spin"])
    }

    fn gateway() -> Traits {
        traits(&["drbd 8.4.11", "spin 0.1", "tailscale 1.90"], &["ext-tailscale"], &["spin"])
    }

    fn judged(role: &str, expected: &Traits, actual: &Traits, other: (&str, Traits)) -> Observation {
        let mut observation = Observation::default();
        judge(&RoleNode { name: "gw", role }, expected, actual, &[other], &mut observation);
        observation
    }

    #[test]
    fn a_node_with_the_wrong_image_is_told_in_one_sentence() {
        let seen = judged("gateway", &gateway(), &compute(), ("compute", compute()));
        insta::assert_snapshot!(seen.cause().expect("wrong"), @"gw (gateway): extensions missing: tailscale 1.90; gw (gateway): extension services missing: ext-tailscale; gw runs a compute image although its role is gateway");
        let seen = judged("compute", &compute(), &gateway(), ("gateway", gateway()));
        insta::assert_snapshot!(seen.cause().expect("wrong"), @"gw (compute): extensions that its image does not have: tailscale 1.90; gw (compute): extension services that its image does not have: ext-tailscale; gw runs a gateway image although its role is compute");
    }

    #[test]
    fn a_node_with_its_own_image_passes_with_a_fact_for_each_kind() {
        let seen = judged("gateway", &gateway(), &gateway(), ("compute", compute()));
        assert_eq!((seen.cause(), seen.evidence.len()), (None, 3));
    }

    #[test]
    fn runc_in_the_root_of_talos_is_on_both_sides() {
        let contents =
            Contents { runtime_handlers: vec!["runc".into(), "spin".into()], ..Contents::default() };
        let talos = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
                     [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.spin]\nruntime_type = 'io.containerd.spin.v2'\n";
        let on_node = Traits { handlers: handlers(talos), ..Traits::default() };
        let seen = judged("compute", &Traits::of(&contents), &on_node, ("gateway", gateway()));
        assert_eq!(seen.cause(), None);
        let without_spin = Traits::default();
        let seen = judged("compute", &Traits::of(&contents), &without_spin, ("gateway", gateway()));
        assert_eq!(seen.cause().as_deref(), Some("gw (compute): runtime handlers missing: spin"));
    }

    #[test]
    fn handlers_are_read_from_either_generation_of_containerd() {
        let old = "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.spin]\n";
        let new = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.spin]\nruntime_type = 'x'\n";
        for config in [old, new] {
            assert_eq!(handlers(config), BTreeSet::from(["spin".to_owned()]));
        }
        assert!(handlers("not = [toml").is_empty());
    }
}
