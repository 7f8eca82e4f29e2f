//! Clients of a node's Talos machine API.
//!
//! [`MaintenanceClient`] connects to a node without a machine config. [`NodeClient`] connects to a configured
//! node with mutual TLS. The messages are generated from the protobuf definitions in `proto/`.

mod answers;
mod api_error;
mod client;
mod files;
mod kubeconfig_archive;
mod maintenance;
mod resources;
mod tls;
mod wire;

pub use answers::{BootReason, ProcessInfo, ServiceHealth, ServiceState, VersionInfo};
pub use api_error::ApiError;
pub use client::NodeClient;
pub use files::{PodLog, PodRun};
pub use maintenance::{ApplyMode, MaintenanceClient};
pub use resources::{ExtensionStatus, MachineStatus, Resource, Stage, VolumeStatus};
