//! Machine configs and their secrets: generation, the lab's own patches, the user's patches.
//!
//! Everything follows what `talosctl` and Talos's own `machinery` library read and write; a Go
//! test feeds what is generated here to that library. [`generate`] makes a node's config from a
//! [`ClusterConfig`] and a [`SecretsBundle`], with the lab's own patches ([`LabPatches`]) merged into it, as
//! into a file of the user's ([`MachineConfig::as_written`]); [`MachineConfig::patch`] merges the user's into
//! that.

mod cluster_config;
#[expect(clippy::module_inception, reason = "the generated config is the idea of this folder")]
mod config;
mod credentials;
mod deletion;
mod documents;
mod lab_patches;
mod merge;
mod mirrors;
mod own_patches;
pub mod pki;
mod pulls;
mod secrets;
mod talosconfig;
mod written;

pub use cluster_config::{ClusterConfig, NodeConfig, RegistryMirror, TalosContract};
pub use config::generate;
pub use credentials::Credentials;
pub use documents::{ConfigError, MachineConfig};
pub use lab_patches::{AppliesTo, LabPatch, LabPatchId, LabPatchLine, LabPatches, Profile, UnknownLabPatch};
pub use mirrors::mirror_ports;
pub use pki::CertificateAndKey;
pub use pulls::{NodeSoftware, pulled_images};
pub use secrets::{SecretsBundle, SecretsError};
pub use talosconfig::{Talosconfig, talosconfig};
