//! Resources that the checks of a scenario share: the cluster, and echo pods on its nodes. The first check
//! that needs the pods starts them. Pod starts are slow on emulated nodes. The pods are not deleted; they end
//! with their cluster.

use std::sync::Arc;

use lab_cluster::{
    formation::{Cluster, FormedCluster},
    kubernetes::{EchoPod, EchoWorkload, KubernetesApi},
    wait::Wait,
};
use lab_model::events::Step;
use tokio::sync::Mutex;

use super::{CheckError, QUESTION, host_view::HostView};

/// A formed cluster during its checks.
pub struct Fixtures {
    formed: FormedCluster,
    echo: Mutex<Echo>,
    /// On the network of the nodes.
    node_echo: Mutex<Echo>,
}

/// The echo workload, and the number of earlier echo workloads.
#[derive(Default)]
struct Echo {
    workload: Option<Arc<EchoWorkload>>,
    before: u32,
}

impl Echo {
    fn namespace(&self, name: &str) -> String {
        format!("{name}-{}", self.before + 1)
    }

    fn keep(&mut self, made: EchoWorkload) -> Arc<EchoWorkload> {
        let made = Arc::new(made);
        self.workload = Some(Arc::clone(&made));
        made
    }
}

/// Echo pods that respond, one on every node, with their workload.
pub(super) struct EchoPods {
    pub(super) workload: Arc<EchoWorkload>,
    pub(super) pods: Vec<EchoPod>,
}

impl Fixtures {
    /// The fixtures of a cluster. The echo pods are not started yet.
    pub fn of(formed: FormedCluster) -> Self {
        Self { formed, echo: Mutex::default(), node_echo: Mutex::default() }
    }

    pub fn formed(&self) -> &FormedCluster {
        &self.formed
    }

    pub(super) fn cluster(&self) -> &Cluster {
        self.formed.cluster()
    }

    pub(super) fn api(&self) -> &KubernetesApi {
        self.formed.kubernetes()
    }

    /// Returns the echo pods when one pod is ready on every node and their service has an endpoint.
    pub(super) async fn echo(&self) -> Result<EchoPods, CheckError> {
        let api = self.api();
        self.pod_network().await?;
        let mut echo = self.echo.lock().await;
        let workload = match &echo.workload {
            Some(workload) => Arc::clone(workload),
            None => {
                let namespace = echo.namespace("lab-checks");
                echo.keep(EchoWorkload::create(api, &namespace).await?)
            }
        };
        drop(echo);
        let pods = on_every_node(self.cluster(), &workload).await?;
        Ok(EchoPods { workload, pods })
    }

    /// Returns echo pods on the network of the nodes, one on every node, when they are ready.
    pub(super) async fn node_echo(&self) -> Result<Vec<EchoPod>, CheckError> {
        let mut echo = self.node_echo.lock().await;
        let workload = match &echo.workload {
            Some(workload) => Arc::clone(workload),
            None => {
                let namespace = echo.namespace("lab-nodes");
                echo.keep(EchoWorkload::create_on_nodes(self.api(), &namespace).await?)
            }
        };
        drop(echo);
        on_every_node(self.cluster(), &workload).await
    }

    /// The access of programs on the host to the cluster.
    pub(super) fn host_view(&self) -> Result<HostView, CheckError> {
        HostView::of(&self.formed)
    }

    /// Waits until kube-proxy and the network plugin run on every node, if they are pods. Their images may arrive
    /// long after the nodes are Ready, and without them requests between pods have no answer.
    async fn pod_network(&self) -> Result<(), CheckError> {
        let limit = self.formed.plan().budgets.limit(Step::Ready);
        let look = async || {
            let system = self.api().system_pods(QUESTION).await.map_err(|error| error.to_string())?;
            match system.incomplete() {
                incomplete if incomplete.is_empty() => Ok(()),
                incomplete => Err([incomplete, system.crashing()].concat().join("; ")),
            }
        };
        let ready = Wait::up_to(limit).retry(look).await;
        ready.map_err(|expired| CheckError::seen(format!("the pod network is not complete: {expired}")))
    }

    /// Keeps the current echo pods, and makes the next check start new ones. Call this after a node restart:
    /// the old pods still count as ready for some time, at addresses that no longer work.
    pub(super) async fn renew_echo(&self) {
        for echo in [&self.echo, &self.node_echo] {
            let mut echo = echo.lock().await;
            if echo.workload.take().is_some() {
                echo.before += 1;
            }
        }
    }
}

/// Returns the pods of the workload when one pod is ready on every node and the service has an endpoint.
pub(super) async fn on_every_node(
    cluster: &Cluster,
    workload: &EchoWorkload,
) -> Result<Vec<EchoPod>, CheckError> {
    let nodes: Vec<_> = cluster.plan().nodes.iter().map(|node| node.spec.name.to_string()).collect();
    let limit = cluster.plan().budgets.limit(Step::Ready);
    let pods = workload.ready_pods(&nodes, limit).await?;
    workload.ready_service(limit).await?;
    Ok(pods)
}
