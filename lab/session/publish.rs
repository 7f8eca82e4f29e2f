//! Publishes the access data of a live cluster for other commands.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, path::PathBuf};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    control::ControlServer,
    formation::{Cluster, Failure, FormedCluster, NotForwarded},
};
use lab_model::events::{EventKind, Subject};
use lab_plan::cluster::NodePlan;
use lab_vm::{
    host::{LabState, LiveNode},
    process::ProcessIdentity,
};

use super::{
    open::{Session, SessionError},
    start::write,
};

/// The file name of the kubeconfig in a cluster's directory.
const KUBECONFIG: &str = "kubeconfig";

impl Session {
    /// Forms a cluster, and publishes its kubeconfig for `lab kubectl` as soon as it exists.
    ///
    /// # Errors
    /// See [`Cluster::form`].
    pub fn form<'a>(
        &'a self,
        cluster: &'a std::sync::Arc<Cluster>,
    ) -> BoxFuture<'a, Result<FormedCluster, Failure>> {
        async move {
            tokio::select! {
                formed = cluster.form() => formed,
                never = self.publish_kubeconfig(cluster) => match never {},
            }
        }
        .boxed()
    }

    /// Publishes the cluster as "forming" after each change of its kubeconfig.
    async fn publish_kubeconfig(&self, cluster: &Cluster) -> Infallible {
        let mut formation = cluster.watch_formation();
        let mut published = None;
        loop {
            let known = formation.borrow_and_update().kubeconfig().ok().map(str::to_owned);
            if known != published {
                if let Err(error) = self.publish(cluster, "forming") {
                    let text = format!("other commands do not find the kubeconfig of this cluster: {error}");
                    self.recorder.record(EventKind::Note { subject: Subject::Cluster, text });
                }
                published = known;
            }
            if formation.changed().await.is_err() {
                // The cluster holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Writes the kubeconfig of a formed cluster to its directory and returns the path.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_kubeconfig(&self, formed: &FormedCluster) -> Result<PathBuf, SessionError> {
        leave_kubeconfig(formed.cluster(), formed.kubeconfig())
    }

    /// Publishes the cluster for `lab status`, `lab node console`, `lab cluster kubectl` and `lab down`.
    /// Includes the kubeconfig if it exists, and returns its path. `phase` is text for the user.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn publish(&self, cluster: &Cluster, phase: &str) -> Result<Option<PathBuf>, SessionError> {
        let owner = ProcessIdentity::of(std::process::id()).ok_or_else(|| SessionError::Host {
            action: "find out when this process started".into(),
            source: std::io::Error::other("the system does not say"),
        })?;
        let nodes = cluster.plan().nodes.iter().map(|node| live_node(cluster, node));
        let nodes = nodes.collect::<Result<_, _>>().map_err(|error: NotForwarded| SessionError::Host {
            action: "publish how the nodes are reached".into(),
            source: std::io::Error::other(error),
        })?;
        leave_talosconfig(cluster)?;
        let kubeconfig = match cluster.formation().kubeconfig() {
            Ok(text) => Some(leave_kubeconfig(cluster, text)?),
            // A forming cluster has no kubeconfig for some time. Readers get a message about this.
            Err(_not_formed) => None,
        };
        let state = LabState {
            name: self.name().to_owned(),
            owner,
            started: jiff::Timestamp::now(),
            phase: phase.to_owned(),
            cluster: Some(cluster.plan().spec.name.clone()),
            nodes,
            kubeconfig: kubeconfig.clone(),
            talosconfig: Some(cluster.directory().join("talosconfig")),
            control: ControlServer::socket_of(cluster),
        };
        self.directory.publish(&state)?;
        Ok(kubeconfig)
    }
}

fn live_node(cluster: &Cluster, node: &NodePlan) -> Result<LiveNode, NotForwarded> {
    let name = &node.spec.name;
    let mut forwards: BTreeMap<String, SocketAddr> = BTreeMap::new();
    forwards.insert("machine-api".to_owned(), cluster.machine_api(name)?);
    if cluster.plan().control_plane().spec.name == *name {
        forwards.insert("kubernetes-api".to_owned(), cluster.kubernetes_api()?);
    }
    Ok(LiveNode {
        name: name.clone(),
        kind: node.spec.kind,
        role: node.spec.role.clone(),
        address: node.address,
        // `None` before the machine starts.
        pid: cluster.machine(name).map(|machine| machine.pid()),
        forwards,
        console: Some(cluster.node_directory(name).join("console.log")),
    })
}

/// Replaces the client file of the plan by one whose endpoint is a port of this host.
fn leave_talosconfig(cluster: &Cluster) -> Result<(), SessionError> {
    let control_plane = cluster.plan().control_plane();
    let Ok(port) = cluster.machine_api(&control_plane.spec.name) else { return Ok(()) };
    let file = cluster.plan().talosconfig.clone().through(port, control_plane.address.into());
    write(cluster.directory(), "talosconfig", file.to_yaml().unwrap_or_default())
}

fn leave_kubeconfig(cluster: &Cluster, text: &str) -> Result<PathBuf, SessionError> {
    write(cluster.directory(), KUBECONFIG, text.to_owned())?;
    Ok(cluster.directory().join(KUBECONFIG))
}
