//! The spec of a cluster, and the plan that resolves it.
//!
//! A [`ClusterSpec`] describes the desired cluster. [`Plan::new`] resolves every value that does not
//! require a VM: images by digest, addresses, secrets, machine configs, kernel arguments and the start
//! order.

mod budget;
mod config_check;
mod extension_modules;
mod fault;
mod image_delivery;
mod images;
mod kernel_arguments;
mod manifest;
mod network_plugin;
mod node_config;
mod order;
mod plan;
mod plan_error;
mod preload;
mod prepared_image;
mod release;
mod spec;
mod tailnet_spec;
mod validation;

pub use budget::Budgets;
pub use config_check::{CheckedPlan, PlannedConfigs};
pub use fault::Fault;
pub use image_delivery::ImageDelivery;
pub use images::MissingImages;
pub use kernel_arguments::KernelArguments;
pub use manifest::Manifest;
pub use network_plugin::NetworkPlugin;
pub use node_config::OwnConfigChange;
pub use order::{Capacity, StartDecision, StartOrder};
pub use plan::{BOOT_TIMEOUT, LateComponent, NodePlan, Plan, PlanInputs};
pub use plan_error::PlanError;
pub use preload::{DiskContents, HELD_KUBELET, ImageNamespace, ImageOnDisk};
pub use prepared_image::PreparedImage;
pub use spec::{
    ClusterSpec, ImageSource, NodeSpec, Patch, PatchSet, RoleRule, TalosContract, default_role_rules,
};
pub use tailnet_spec::{
    ControlServerState, KeyState, OUTSIDE_CLIENT, RouteApproval, TailnetSpec, TailnetSpecError,
};
pub use validation::{SpecError, SpecSubject, SpecWarning};

pub use crate::network::{
    FIRST_NODE_HOST, KUBERNETES_API_PORT, MACHINE_API_PORT, NetworkSpec, REGISTRY_PORT, TAILNET,
};
