//! The live checks: each looks at a formed cluster and says what it saw.
//!
//! A check passes only on evidence: when it could not look, it fails and says so.
//!
//! Everything about a check is in its file: its name, its parameters and how they are written, its words, the
//! images of its workloads, and the code that looks. A new check is a new file and a line in the table below. The
//! other files are what several checks use.

mod asked;
mod asker;
mod boot_id;
mod error;
mod fixtures;
mod links;
mod node_ports;
mod observation;
mod tailnet_bounds;
mod tailnet_packets;
mod tailnet_requests;

pub use error::CheckError;
pub use fixtures::Fixtures;
pub use observation::Observation;

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use lab_cluster::wait::Wait;

use super::check::{CheckDefinition, CheckKind, PlannedCheck};

/// A check that looks at a live cluster.
pub trait Check: PlannedCheck {
    /// Looks at the cluster and notes what is seen. The check passes when something was noted, and nothing wrong.
    ///
    /// # Errors
    /// When it cannot go on. The error is noted as something wrong.
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>>;
}

/// Declares the modules of the checks and the table of them, in the order in which messages name them. The first is
/// what a scenario without checks looks at. (`make check` formats these files apart: `cargo fmt` does not look for
/// modules inside a macro.)
macro_rules! table_of_checks {
    ($($module:ident::$kind:ident,)*) => {
        $(mod $module;
        pub use $module::$kind;)*

        /// All checks that a scenario file may name.
        pub static CHECKS: &[CheckDefinition<dyn Check>] = &[$(definition::<$module::$kind>(),)*];
    };
}

table_of_checks! {
    layers_green::LayersGreen,
    architecture::Architecture,
    clock::Clock,
    no_tailscale::NoTailscale,
    pod_network::PodNetwork,
    power_cycle::PowerCycle,
    roles::Roles,
    wasm::Wasm,
    kernel_modules::KernelModules,
    boot_hold::BootHold,
    link_cut::LinkCut,
    partition::PartitionCheck,
    link_shape::LinkShape,
    tailnet_routing::TailnetRouting,
    tailnet_recovery::TailnetRecovery,
}

const fn definition<K: CheckKind + Check>() -> CheckDefinition<dyn Check> {
    CheckDefinition::new::<K>(|parameters| parameters.read::<K, dyn Check>(|check| Arc::new(check)))
}

/// How long one question to a node may take, at the least.
const QUESTION: Duration = Duration::from_secs(20);

/// How often a formed cluster is asked again at most, for what it comes to by itself: a service's rules reach each node
/// a moment after its endpoints are ready, which no object of the API tells, and under emulation that moment is
/// seconds.
const TRIES: u32 = 15;

/// The patience with a formed cluster; see [`crate::cluster::Budgets::patience`].
fn patient(patience: Duration) -> Wait {
    Wait::up_to(patience).at_most(TRIES)
}

/// Does a check.
pub async fn look(fixtures: &Fixtures, check: &dyn Check) -> Observation {
    let mut seen = Observation::default();
    if let Err(error) = check.look(fixtures, &mut seen).await {
        seen.problem(error);
    }
    if check.restarts_nodes() {
        fixtures.renew_echo().await;
    }
    seen
}
