//! What a program on the host has of a cluster: the API server, client files, and an environment.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf, absolute},
    process::Command,
    time::Duration,
};

use lab_cluster::{
    formation::{Cluster, FormedCluster},
    kubernetes::KubernetesApi,
};
use lab_model::node::{Kind, NodeName, Role};
use lab_plan::cluster::Budgets;
use lab_vm::process::Processes;

use super::CheckError;

/// The access of programs on the host to a cluster.
pub struct HostView {
    pub api: KubernetesApi,
    /// Starts programs that end with the lab.
    pub processes: Processes,
    pub budgets: Budgets,
    pub environment: Environment,
}

impl HostView {
    /// The access to a formed cluster, through the files that the session publishes.
    pub(super) fn of(formed: &FormedCluster) -> Result<Self, CheckError> {
        let cluster = formed.cluster();
        Ok(Self {
            api: formed.kubernetes().clone(),
            processes: cluster.processes().clone(),
            budgets: cluster.plan().budgets.clone(),
            environment: environment(cluster)?,
        })
    }

    /// The time limit of a check, given on the reference host.
    pub(super) fn limit(&self, given: Option<Duration>, otherwise: Duration) -> Duration {
        self.budgets.on_this_host(given.unwrap_or(otherwise))
    }
}

fn environment(cluster: &Cluster) -> Result<Environment, CheckError> {
    let file = |name: &str| {
        let path = cluster.directory().join(name);
        match absolute(&path) {
            Ok(path) if path.is_file() => Ok(path),
            _ => Err(CheckError::lacks(format!("there is no {}; the session publishes it", path.display()))),
        }
    };
    let mut nodes = Vec::new();
    for node in &cluster.plan().nodes {
        nodes.push(NodeAccess {
            name: node.spec.name.clone(),
            kind: node.spec.kind,
            role: node.spec.role.clone(),
            address: node.address.to_string(),
            machine_api: cluster.machine_api(&node.spec.name).ok(),
        });
    }
    let api = cluster.kubernetes_api().ok();
    Ok(Environment::of(&file("kubeconfig")?, &file("talosconfig")?, &nodes, api))
}

/// A node as programs on the host see it.
#[derive(Clone, Debug)]
pub struct NodeAccess {
    pub name: NodeName,
    pub kind: Kind,
    pub role: Role,
    /// The address on the lab LAN; programs on the host do not reach it.
    pub address: String,
    /// The forwarded port of its machine API on the host.
    pub machine_api: Option<SocketAddr>,
}

/// The variables of programs that check a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The variables of a cluster; `docs/own-checks.md` describes them.
    pub fn of(
        kubeconfig: &Path,
        talosconfig: &Path,
        nodes: &[NodeAccess],
        kubernetes_api: Option<SocketAddr>,
    ) -> Self {
        let list = |of: &dyn Fn(&NodeAccess) -> String| nodes.iter().map(of).collect::<Vec<_>>().join(" ");
        let mut variables = BTreeMap::from([
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("TALOSCONFIG".to_owned(), talosconfig.display().to_string()),
            ("LAB_NODES".to_owned(), list(&|node| node.name.to_string())),
            ("LAB_ADDRESSES".to_owned(), list(&|node| node.address.clone())),
            ("LAB_KINDS".to_owned(), list(&|node| node.kind.machine_type().to_owned())),
            ("LAB_ROLES".to_owned(), list(&|node| node.role.to_string())),
        ]);
        if let Some(address) = kubernetes_api {
            variables.insert("LAB_KUBERNETES_API".to_owned(), address.to_string());
        }
        for node in nodes {
            // Names of nodes have no underscore, so two of them cannot become one variable.
            let name = node.name.as_str().to_uppercase().replace('-', "_");
            let mut set = |what: &str, value: String| variables.insert(format!("LAB_{what}_{name}"), value);
            set("ADDRESS", node.address.clone());
            set("KIND", node.kind.machine_type().to_owned());
            set("ROLE", node.role.to_string());
            if let Some(address) = node.machine_api {
                set("MACHINE_API", address.to_string());
            }
        }
        Self { variables }
    }

    /// The same environment with another variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// A command in `directory` with these variables, beside those of the lab itself.
    pub(super) fn command(&self, program: impl Into<PathBuf>, directory: &Path) -> Command {
        let mut command = Command::new(program.into());
        command.envs(&self.variables).current_dir(directory);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_finds_every_node_with_address_role_and_machine_api() {
        let node = |name: &str, role: &str, port: Option<u16>| NodeAccess {
            name: name.parse().expect("name"),
            kind: Kind::Worker,
            role: Role::new(role).expect("role"),
            address: "10.5.0.10".into(),
            machine_api: port.map(|port| ([127, 0, 0, 1], port).into()),
        };
        let nodes = [node("worker-1", "compute", Some(4000)), node("gw", "gateway", None)];
        let environment =
            Environment::of(Path::new("/k"), Path::new("/t"), &nodes, None).with("PATH", "/none");
        let lines: Vec<_> =
            environment.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        KUBECONFIG=/k
        LAB_ADDRESSES=10.5.0.10 10.5.0.10
        LAB_ADDRESS_GW=10.5.0.10
        LAB_ADDRESS_WORKER_1=10.5.0.10
        LAB_KINDS=worker worker
        LAB_KIND_GW=worker
        LAB_KIND_WORKER_1=worker
        LAB_MACHINE_API_WORKER_1=127.0.0.1:4000
        LAB_NODES=worker-1 gw
        LAB_ROLES=compute gateway
        LAB_ROLE_GW=gateway
        LAB_ROLE_WORKER_1=compute
        PATH=/none
        TALOSCONFIG=/t
        ");
    }
}
