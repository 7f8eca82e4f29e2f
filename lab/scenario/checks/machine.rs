//! Resources of the machine API, judged by the user's own expression.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{machine_api::Resource, wait::Wait};
use lab_model::{
    Diagnostic,
    node::{NodeName, Role},
};
use lab_plan::{
    cluster::{ClusterSpec, NodePlan},
    own_checks::{Condition, Unmet},
    scenario::{CheckContext, CheckKind, Text, Words},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::{Check, CheckError, Fixtures, Observation, QUESTION, expression};

#[derive(Debug, Serialize)]
pub struct MachineCheck {
    /// Type, for example `ExtensionStatuses.runtime.talos.dev`.
    resource: String,
    namespace: String,
    /// The id of one resource; without it, the condition is about the list of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// The nodes to ask; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    condition: Condition,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Written {
    resource: Text,
    namespace: String,
    id: Option<String>,
    #[serde(default)]
    nodes: Vec<Text>,
    role: Option<Text>,
    cel: Option<Text>,
    json_path: Option<Text>,
    value: Option<Text>,
    limit: Option<Spanned<f64>>,
}

impl CheckKind for MachineCheck {
    const NAME: &'static str = "machine";
    type Written = Written;

    fn read(written: Written, context: &mut CheckContext<'_, '_>) -> Option<Self> {
        let variable = if written.id.is_some() { "object" } else { "objects" };
        let expression = expression::Written {
            cel: written.cel.as_ref(),
            json_path: written.json_path.as_ref(),
            value: written.value.as_ref(),
        };
        let Some(condition) = expression.read(variable, context)? else {
            let problem = Diagnostic::at(&written.resource, "what the resource must show is not said");
            context
                .report(problem.help(format!("give `cel`, an expression over `{variable}`, or `jsonPath`")));
            return None;
        };
        let role = match &written.role {
            Some(role) => Some(context.role(role)?),
            None => None,
        };
        if let (Some(place), [_, ..]) = (&written.role, written.nodes.as_slice()) {
            context.report(
                Diagnostic::at(place, "`role` and `nodes` exclude each other").help("keep one of them"),
            );
            return None;
        }
        let nodes = context.nodes(&written.nodes)?;
        let limit = context.limit(written.limit.as_ref())?;
        Some(Self {
            resource: written.resource.value,
            namespace: written.namespace,
            id: written.id,
            nodes,
            role,
            condition,
            limit,
        })
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        let which = match (&self.role, self.nodes.as_slice()) {
            (Some(role), _) => format!("each node of the role {role}"),
            (None, []) => "every node".to_owned(),
            (None, nodes) => nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", "),
        };
        Words::new(
            Words::formed(cluster),
            format!("the machine API of {which} is asked for {}", self.named()),
            format!("it {}", self.condition),
        )
    }

    fn nodes(&self) -> Vec<&NodeName> {
        self.nodes.iter().collect()
    }
}

impl Check for MachineCheck {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            let cluster = fixtures.cluster();
            let budgets = &cluster.plan().budgets;
            let limit = self.limit.map_or(budgets.patience(), |limit| budgets.on_this_host(limit));
            for node in cluster.plan().nodes.iter().filter(|node| self.is_for(node)) {
                let name = &node.spec.name;
                let look = async || {
                    let listed = match cluster.connect(node).await {
                        Ok(client) => client.list(&self.namespace, &self.resource, QUESTION).await,
                        Err(error) => Err(error),
                    };
                    self.judge(&listed.map_err(|error| Unmet::NotYet(error.to_string()))?)
                };
                let again = |unmet: &Unmet| matches!(unmet, Unmet::NotYet(_));
                match Wait::up_to(limit).retry_if(again, look).await {
                    Ok(()) => seen.fact(format!("{name}: {} {}", self.named(), self.condition)),
                    Err((_, unmet)) => seen.problem(format!("{name}: {unmet}")),
                }
            }
            Ok(())
        }
        .boxed()
    }
}

impl MachineCheck {
    fn named(&self) -> String {
        match &self.id {
            Some(id) => format!("{}/{id}", self.resource),
            None => self.resource.clone(),
        }
    }

    fn is_for(&self, node: &NodePlan) -> bool {
        let named = self.nodes.is_empty() || self.nodes.contains(&node.spec.name);
        named && self.role.as_ref().is_none_or(|role| *role == node.spec.role)
    }

    /// Judges the resources of a node. The cause quotes no value of them: resources can hold secrets.
    fn judge(&self, resources: &[Resource]) -> Result<(), Unmet> {
        let value = match &self.id {
            None => Value::Array(resources.iter().map(as_value).collect()),
            Some(id) => match resources.iter().find(|resource| resource.id == *id) {
                Some(resource) => as_value(resource),
                None => {
                    let (kind, count) = (&self.resource, resources.len());
                    return Err(Unmet::NotYet(format!("there is no {kind} {id} ({count} others)")));
                }
            },
        };
        self.condition.check(&value).map_err(|unmet| match unmet {
            Unmet::NotYet(_) => {
                Unmet::NotYet(format!("{}: it is not so that it {}", self.named(), self.condition))
            }
            Unmet::Never(cause) => Unmet::Never(cause),
        })
    }
}

fn as_value(resource: &Resource) -> Value {
    json!({
        "metadata": { "namespace": resource.namespace, "type": resource.kind, "id": resource.id },
        "spec": resource.spec,
    })
}

#[cfg(test)]
mod tests {
    use lab_plan::own_checks::{Cel, JsonPath};

    use super::*;

    fn check(id: Option<&str>, condition: Condition) -> MachineCheck {
        MachineCheck {
            resource: "ExtensionStatuses.runtime.talos.dev".into(),
            namespace: "runtime".into(),
            id: id.map(str::to_owned),
            nodes: Vec::new(),
            role: None,
            condition,
            limit: None,
        }
    }

    fn extension(id: &str, name: &str) -> Resource {
        Resource {
            namespace: "runtime".into(),
            kind: "ExtensionStatuses.runtime.talos.dev".into(),
            id: id.into(),
            spec: json!({ "metadata": { "name": name, "version": "s3cret" } }),
        }
    }

    #[test]
    fn a_list_is_judged_as_a_whole_and_one_resource_by_its_id() {
        let spin = "objects.exists(e, e.spec.metadata.name == 'spin')";
        let any = check(None, Condition::Cel(Cel::parse(spin, "objects").expect("expression")));
        assert_eq!(any.judge(&[extension("0", "zfs"), extension("1", "spin")]), Ok(()));
        let missing = any.judge(&[extension("0", "zfs")]).expect_err("missing").to_string();
        assert!(missing.contains(spin) && !missing.contains("s3cret"), "{missing}");
        assert!(any.judge(&[]).is_err());
        let path = JsonPath::parse("$.spec.metadata.version").expect("path");
        let one = check(Some("1"), Condition::JsonPath { path, value: Some("other".into()) });
        let seen = one.judge(&[extension("1", "spin")]).expect_err("another version").to_string();
        assert!(!seen.contains("s3cret"), "{seen}");
        let none = one.judge(&[extension("0", "zfs")]).expect_err("no such resource").to_string();
        assert_eq!(none, "there is no ExtensionStatuses.runtime.talos.dev 1 (1 others)");
    }
}
