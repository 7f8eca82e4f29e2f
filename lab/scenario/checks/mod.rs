//! The live checks. Each check observes a formed cluster and reports what it observed.
//!
//! A check passes only on evidence. If it cannot observe the cluster, it fails and reports this.
//!
//! One file contains everything about a check: its name, its parameters and their syntax, its description,
//! the images of its workloads, and its code. To add a check, add a file and a line in the table below. The
//! other files are shared by several checks.

mod asked;
mod asker;
mod boot_id;
mod error;
mod expression;
mod fixtures;
mod host_view;
mod links;
mod node_ports;
mod observation;
mod tailnet_bounds;
mod tailnet_packets;
mod tailnet_requests;

pub use error::CheckError;
pub use fixtures::Fixtures;
pub use host_view::{Environment, HostView, NodeAccess};
pub use observation::Observation;

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::wait::Wait;
use lab_plan::scenario::{CheckDefinition, CheckKind, PlannedCheck};

/// A check that observes a live cluster.
pub trait Check: PlannedCheck {
    /// Observes the cluster and notes the results. The check passes if it noted at least one fact and no
    /// problem.
    ///
    /// # Errors
    /// If the check cannot continue. The error is noted as a problem.
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>>;

    /// Returns the check if it needs only what programs on the host have of a cluster.
    fn on_host(&self) -> Option<&dyn HostCheck> {
        None
    }
}

/// A check that needs only the API server and client files of a cluster. `lab vet` runs it without nodes.
pub trait HostCheck: PlannedCheck {
    /// Observes the cluster, like [`Check::look`].
    ///
    /// # Errors
    /// If the check cannot continue.
    fn judge<'a>(
        &'a self,
        host: &'a HostView,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>>;

    /// Returns the script that the check runs.
    fn script(&self) -> Option<PathBuf> {
        None
    }
}

impl<C: HostCheck> Check for C {
    fn look<'a>(
        &'a self,
        fixtures: &'a Fixtures,
        seen: &'a mut Observation,
    ) -> BoxFuture<'a, Result<(), CheckError>> {
        async move { self.judge(&fixtures.host_view()?, seen).await }.boxed()
    }

    fn on_host(&self) -> Option<&dyn HostCheck> {
        Some(self)
    }
}

/// Declares the modules of the checks and the table of checks, in the order of the messages. The first check
/// is the default of a scenario without checks. (`make check` formats these files separately: `cargo fmt`
/// does not find modules inside a macro.)
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
    run::Run,
    manifests::Manifests,
    http::Http,
    machine::MachineCheck,
    chainsaw::Chainsaw,
}

const fn definition<K: CheckKind + Check>() -> CheckDefinition<dyn Check> {
    CheckDefinition::new::<K>(|parameters| parameters.read::<K, dyn Check>(|check| Arc::new(check)))
}

/// The minimum time limit of one request to a node.
const QUESTION: Duration = Duration::from_secs(20);

/// The retry limit for a state that a formed cluster reaches by itself; see
/// [`crate::cluster::Budgets::patience`]. The rules of a service reach each node some time after its endpoints
/// are ready. No API object shows this, and on a slow node it takes many seconds.
fn patient(patience: Duration) -> Wait {
    Wait::up_to(patience)
}

/// Runs a check.
pub async fn look(fixtures: &Fixtures, check: &dyn Check) -> Observation {
    let mut seen = Observation::default();
    if let Err(error) = check.look(fixtures, &mut seen).await {
        seen.problem(error);
    }
    if seen.has_problems() {
        // Whatever the check looked at may be the consequence of these.
        let system = fixtures.api().system_pods(QUESTION).await.unwrap_or_default();
        system.crashing().into_iter().for_each(|crash| seen.problem_once(crash));
    }
    if check.restarts_nodes() {
        fixtures.renew_echo().await;
    }
    seen
}
