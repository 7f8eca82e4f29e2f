//! The client of a node's machine API, in maintenance mode and afterwards.
//!
//! [`MaintenanceClient`] speaks to a node that has no machine config yet, [`NodeClient`] to a configured one,
//! with mutual TLS. What they send and read follows Talos' own definitions in `proto/`.

mod answers;
mod api_error;
mod client;
mod kubeconfig_archive;
mod maintenance;
mod resources;
mod tls;
mod wire;

pub use answers::{BootReason, ProcessInfo, ServiceHealth, ServiceState, VersionInfo};
pub use api_error::ApiError;
pub use client::NodeClient;
pub use maintenance::{ApplyMode, MaintenanceClient};
pub use resources::{ExtensionStatus, MachineStatus, Resource, Stage};
