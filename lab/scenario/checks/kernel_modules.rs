//! Every node has loaded the kernel modules of an extension.

use futures::{FutureExt, future::BoxFuture};
use lab_plan::{
    cluster::ClusterSpec,
    scenario::{CheckContext, CheckKind, Words},
};
use serde::{Deserialize, Serialize};

use super::{Check, CheckError, Fixtures, Observation, QUESTION};

/// The kernel's list of loaded modules: one module per line, the name first (proc(5)).
const LIST: &str = "/proc/modules";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelModules {
    /// The module names of the kernel.
    pub names: Vec<String>,
}

impl CheckKind for KernelModules {
    const NAME: &'static str = "kernel-modules";
    type Written = Self;

    fn read(written: Self, _: &mut CheckContext<'_, '_>) -> Option<Self> {
        Some(written)
    }

    fn words(&self, cluster: &ClusterSpec) -> Words {
        Words::new(
            Words::formed(cluster),
            "each node's kernel is asked for its modules",
            format!("{} is loaded on every node", self.names.join(", ")),
        )
    }
}

impl Check for KernelModules {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move {
            for node in &fixtures.cluster().plan().nodes {
                let name = node.spec.name.as_str();
                let list = match fixtures.cluster().connect(node).await {
                    Ok(client) => client.read_file(LIST, QUESTION).await,
                    Err(error) => Err(error),
                };
                match list {
                    Ok(list) => judge(name, &self.names, &list, seen),
                    Err(error) => seen.problem(format!("{name}: {error}")),
                }
            }
            Ok(())
        }
        .boxed()
    }
}

fn judge(node: &str, names: &[String], list: &str, observation: &mut Observation) {
    let loaded: Vec<_> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    if loaded.is_empty() {
        return observation
            .problem(format!("{node}: its kernel names no module at all, so nothing is known"));
    }
    for name in names {
        let there = loaded.contains(&name.replace('-', "_").as_str());
        let text = if there {
            format!("{node}: {name} is loaded")
        } else {
            format!(
                "{node}: the kernel module {name} is not loaded (machine.kernel.modules of its config, or its \
                 extension, is missing)"
            )
        };
        observation.note(there, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(list: &str) -> Option<String> {
        let mut observation = Observation::default();
        judge("n", &["drbd".to_owned()], list, &mut observation);
        observation.cause()
    }

    #[test]
    fn a_module_counts_only_by_its_whole_name() {
        assert_eq!(judged("drbd 409600 0 - Live 0x0\nlru_cache 16384 1 drbd, Live 0x0\n"), None);
        assert!(
            judged("lru_cache 16384 1 drbd, Live 0x0\n").expect("missing").contains("drbd is not loaded")
        );
        assert!(judged("").expect("empty").contains("nothing is known"));
    }
}
