//! The live checks: each looks at a formed cluster and says what it saw.
//!
//! A check passes only on evidence: when it could not look, it fails and says so.

mod architecture;
mod attempts;
mod boot_hold;
mod doors;
mod kernel_modules;
mod layers;
mod link_cut;
mod link_shape;
mod links;
mod no_tailscale;
mod observation;
mod partition;
mod pod_network;
mod power_cycle;
mod roles;
mod tailnet_bounds;
mod tailnet_recovery;
mod tailnet_requests;
mod tailnet_routing;
mod wasm;

pub(super) use observation::Observation;

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use super::check::Check;
use crate::{
    cluster::Cluster,
    events::Step,
    kubernetes::{EchoPod, EchoWorkload, KubernetesError},
};

/// How long one question to a node may take, at the least.
const QUESTION: Duration = Duration::from_secs(20);

/// The workload's pods, once one is ready on every node and the service stands for one of them.
async fn on_every_node(cluster: &Cluster, workload: &EchoWorkload) -> Result<Vec<EchoPod>, KubernetesError> {
    let nodes: Vec<_> = cluster.plan().nodes.iter().map(|node| node.spec.name.to_string()).collect();
    let limit = cluster.plan().budgets.limit(Step::Ready);
    let pods = workload.ready_pods(&nodes, limit).await?;
    workload.ready_service(limit).await?;
    Ok(pods)
}

/// A namespace that no check had before: one that is being deleted takes no new pods.
fn fresh_namespace(name: &str) -> String {
    static MADE: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}", MADE.fetch_add(1, Relaxed))
}

/// Does a check.
pub(super) async fn look(cluster: &Cluster, check: &Check) -> Observation {
    match check {
        Check::LayersGreen => layers::look(cluster).await,
        Check::Architecture { is } => architecture::look(cluster, *is).await,
        Check::NoTailscale { role } => no_tailscale::look(cluster, role.as_ref()).await,
        Check::PodNetwork { service, dns } => pod_network::look(cluster, *service, *dns).await,
        Check::PowerCycle { node } => power_cycle::look(cluster, node).await,
        Check::Roles => roles::look(cluster).await,
        Check::TailnetRouting => tailnet_routing::look(cluster).await,
        Check::TailnetRecovery { after } => tailnet_recovery::look(cluster, after).await,
        Check::Wasm => wasm::look(cluster).await,
        Check::KernelModules { names } => kernel_modules::look(cluster, names).await,
        Check::LinkCut { node } => link_cut::look(cluster, node).await,
        Check::Partition { partition, lasts } => partition::look(cluster, partition, *lasts).await,
        Check::LinkShape { node, impairment } => link_shape::look(cluster, node, *impairment).await,
        Check::BootHold { node, ends } => boot_hold::look(cluster, node, ends).await,
    }
}
