//! The live checks: each looks at a formed cluster and says what it saw.
//!
//! A check passes only on evidence: when it could not look, it fails and says so.

mod architecture;
mod asker;
mod attempts;
mod boot_hold;
mod doors;
mod fixtures;
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

pub(super) use fixtures::Fixtures;
pub(super) use observation::Observation;

use std::time::Duration;

use super::check::{Check, Disturbance, HoldEnd};

/// How long one question to a node may take, at the least.
const QUESTION: Duration = Duration::from_secs(20);

/// An error in words: a check notes them and goes on or ends.
fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Does a check.
pub(super) async fn look(fixtures: &Fixtures<'_>, check: &Check) -> Observation {
    let (formed, cluster) = (fixtures.formed, fixtures.cluster);
    let observation = match check {
        Check::LayersGreen => layers::look(formed).await,
        Check::Architecture { is } => architecture::look(formed, *is).await,
        Check::NoTailscale { role } => no_tailscale::look(cluster, role.as_ref()).await,
        Check::PodNetwork { service, dns } => pod_network::look(fixtures, *service, *dns).await,
        Check::PowerCycle { node } => power_cycle::look(formed, node).await,
        Check::Roles => roles::look(cluster).await,
        Check::TailnetRouting => tailnet_routing::look(fixtures).await,
        Check::TailnetRecovery { after } => tailnet_recovery::look(fixtures, after).await,
        Check::Wasm => wasm::look(fixtures).await,
        Check::KernelModules { names } => kernel_modules::look(cluster, names).await,
        Check::LinkCut { node } => link_cut::look(fixtures, node).await,
        Check::Partition { partition, lasts } => partition::look(fixtures, partition, *lasts).await,
        Check::LinkShape { node, impairment } => link_shape::look(fixtures, node, *impairment).await,
        Check::BootHold { node, ends } => boot_hold::look(formed, node, ends).await,
    };
    if restarts_nodes(check) {
        fixtures.renew_echo().await;
    }
    observation
}

fn restarts_nodes(check: &Check) -> bool {
    match check {
        Check::PowerCycle { .. } | Check::BootHold { ends: HoldEnd::Reboot, .. } => true,
        Check::TailnetRecovery { after } => after.contains(&Disturbance::GatewayReboot),
        _ => false,
    }
}
