//! Telling other commands how a live cluster is reached.

use super::open::{Session, SessionError};
use crate::{
    cluster::Cluster,
    control::ControlServer,
    host::{LabState, LiveNode, ProcessIdentity},
};

impl Session {
    /// Publishes the cluster for `lab status`, `lab node console` and `lab down`; `phase` is for people.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn publish(&self, cluster: &Cluster, phase: &str) -> Result<(), SessionError> {
        let owner = ProcessIdentity::of(std::process::id()).ok_or_else(|| SessionError::Host {
            action: "find out when this process started".into(),
            source: std::io::Error::other("the system does not say"),
        })?;
        let nodes = cluster.plan().nodes.iter().map(|node| {
            let name = &node.spec.name;
            let machine = cluster.machine(name);
            let mut forwards: std::collections::BTreeMap<_, _> = cluster
                .machine_api(name)
                .map(|address| ("machine-api".to_owned(), address))
                .into_iter()
                .collect();
            if cluster.plan().control_plane().is_some_and(|first| first.spec.name == *name) {
                forwards
                    .extend(cluster.kubernetes_api().map(|address| ("kubernetes-api".to_owned(), address)));
            }
            LiveNode {
                name: name.clone(),
                kind: node.spec.kind,
                role: node.spec.role.clone(),
                address: node.address,
                pid: machine.as_ref().map(|machine| machine.pid()),
                forwards,
                console: Some(cluster.node_directory(name).join("console.log")),
            }
        });
        let kubeconfig = cluster.directory().join("kubeconfig");
        let state = LabState {
            name: self.name().to_owned(),
            owner,
            started: jiff::Timestamp::now(),
            phase: phase.to_owned(),
            nodes: nodes.collect(),
            kubeconfig: kubeconfig.exists().then_some(kubeconfig),
            talosconfig: Some(cluster.directory().join("talosconfig")),
            control: ControlServer::socket_of(cluster),
        };
        Ok(self.directory.publish(&state)?)
    }
}
