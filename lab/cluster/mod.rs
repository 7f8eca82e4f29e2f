//! `ClusterSpec` -> `Plan` -> live `Cluster`: formation as concurrent steps.

mod size;
mod spec;
mod validation;

pub use size::{InvalidSize, Size};
pub use spec::{
    ClusterSpec, FIRST_NODE_HOST, ImageSource, NetworkSpec, NodeSpec, Patch, PatchSet, TalosContract,
};
pub use validation::{SpecError, SpecSubject, SpecWarning, TAILNET};
