//! `ClusterSpec` -> `Plan` -> live `Cluster`: formation as concurrent steps.
//!
//! A [`ClusterSpec`] says what is wanted, a [`Plan`] what will be done; both are plain data. A
//! [`Cluster`] is live: it owns processes, and everything it waits for is a step that is announced
//! on the event stream, bounded by a budget and ended early by whatever makes it hopeless.

mod budget;
#[expect(clippy::module_inception, reason = "the live cluster is the idea of this folder")]
mod cluster;
mod diagnosis;
mod failure;
mod fault;
mod formation;
mod plan;
mod readiness;
mod spec;
mod steps;

pub use budget::Budgets;
pub use cluster::{Cluster, Host};
pub use failure::{Cause, Failure};
pub use fault::Fault;
pub use plan::{KUBERNETES_API_PORT, MACHINE_API_PORT, NodePlan, Plan, PlanError, PlanInputs, PreparedImage};
pub use spec::{
    CONTROL_PLANE_MEMORY_MIB, ClusterSpec, Networks, NodeSpec, SpecError, TAILSCALE_BLOCK, WORKER_MEMORY_MIB,
};
