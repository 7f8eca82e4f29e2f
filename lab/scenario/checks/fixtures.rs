//! What the checks of a scenario share: the cluster, and echo pods on its nodes that the first check which needs them
//! starts. Starting pods is dear on emulated nodes; nobody deletes them, for they end with their cluster.

use std::sync::Arc;

use lab_cluster::{
    formation::{Cluster, FormedCluster},
    kubernetes::{EchoPod, EchoWorkload, KubernetesApi},
};
use lab_model::events::Step;
use tokio::sync::Mutex;

use super::CheckError;

/// A formed cluster while checks look at it.
pub struct Fixtures {
    formed: FormedCluster,
    echo: Mutex<Echo>,
}

/// The echo workload, and how many there were before it.
#[derive(Default)]
struct Echo {
    workload: Option<Arc<EchoWorkload>>,
    before: u32,
}

/// Echo pods that answer, one on every node, with their workload.
pub(super) struct EchoPods {
    pub(super) workload: Arc<EchoWorkload>,
    pub(super) pods: Vec<EchoPod>,
}

impl Fixtures {
    /// The fixtures of a cluster, none of which are started yet.
    pub fn of(formed: FormedCluster) -> Self {
        Self { formed, echo: Mutex::default() }
    }

    /// The cluster.
    pub fn formed(&self) -> &FormedCluster {
        &self.formed
    }

    /// Its LAN, its machines and its plan.
    pub(super) fn cluster(&self) -> &Cluster {
        self.formed.cluster()
    }

    /// The Kubernetes API.
    pub(super) fn api(&self) -> &KubernetesApi {
        self.formed.kubernetes()
    }

    /// The echo pods, once one is ready on every node and their service stands for one of them.
    pub(super) async fn echo(&self) -> Result<EchoPods, CheckError> {
        let api = self.api();
        let workload = {
            let mut echo = self.echo.lock().await;
            match &echo.workload {
                Some(workload) => Arc::clone(workload),
                None => {
                    let namespace = format!("lab-checks-{}", echo.before + 1);
                    let made = Arc::new(EchoWorkload::create(api, &namespace).await?);
                    echo.workload = Some(Arc::clone(&made));
                    made
                }
            }
        };
        let pods = on_every_node(self.cluster(), &workload).await?;
        Ok(EchoPods { workload, pods })
    }

    /// Leaves the echo pods as they are and has the next check start others. To be called once a node has
    /// restarted: its pods count as ready for a while, at addresses that they have no more.
    pub(super) async fn renew_echo(&self) {
        let mut echo = self.echo.lock().await;
        if echo.workload.take().is_some() {
            echo.before += 1;
        }
    }
}

/// The workload's pods, once one is ready on every node and the service stands for one of them.
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
