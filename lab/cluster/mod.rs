//! `ClusterSpec` -> `Plan` -> live `Cluster`: formation as concurrent steps.

mod budget;
mod spec;

pub use budget::Budgets;
pub use spec::{
    CONTROL_PLANE_MEMORY_MIB, ClusterSpec, Networks, NodeSpec, SpecError, TAILSCALE_BLOCK, WORKER_MEMORY_MIB,
};
