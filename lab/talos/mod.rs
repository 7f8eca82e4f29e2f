//! The machine API and its documents: secrets bundle, config generation and patching, API client.
//!
//! Everything follows what `talosctl` and Talos's own `machinery` library read and write; a Go
//! test feeds what is generated here to that library. [`generate`] makes a node's config from a
//! [`ClusterConfig`] and a [`SecretsBundle`], with the lab's own patches ([`LabPatches`]) laid over it, as
//! over a file of the user's ([`MachineConfig::as_written`]); [`MachineConfig::patch`] lays the user's over
//! that; [`MaintenanceClient`] and [`NodeClient`] speak to nodes.

mod answers;
mod api_error;
mod client;
mod config;
mod deletion;
mod documents;
mod kubeconfig_archive;
mod lab_patches;
mod maintenance;
mod merge;
mod mirrors;
mod own_patches;
mod pki;
mod pulls;
mod resources;
mod secrets;
mod talosconfig;
mod tls;
mod wire;
mod written;

pub use answers::{BootReason, ProcessInfo, ServiceHealth, ServiceState, VersionInfo};
pub use api_error::ApiError;
pub use client::{Credentials, NodeClient};
pub use config::{ClusterConfig, NodeConfig, RegistryMirror, TalosContract, generate};
pub use documents::{ConfigError, MachineConfig};
pub use lab_patches::{AppliesTo, LabPatch, LabPatchId, LabPatchLine, LabPatches, Profile, UnknownLabPatch};
pub use maintenance::{ApplyMode, MaintenanceClient};
pub use mirrors::mirror_ports;
pub use pulls::{NodeSoftware, pulled_images};
pub use resources::{ExtensionStatus, MachineStatus, Resource, Stage};
pub use secrets::{SecretsBundle, SecretsError};
pub use talosconfig::{Talosconfig, talosconfig};
