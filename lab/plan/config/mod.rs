//! Machine configs and their secrets: generation, lab patches and user patches.
//!
//! The formats match `talosctl` and Talos's `machinery` library. A Go test reads generated configs with
//! that library. [`generate`] creates a node's config from a [`ClusterConfig`] and a [`SecretsBundle`],
//! and merges the lab patches ([`LabPatches`]) into it. The lab merges the same patches into a user's
//! file ([`MachineConfig::as_written`]). [`MachineConfig::patch`] then merges the user's patches.

mod cluster_config;
#[expect(clippy::module_inception, reason = "the generated config is the idea of this folder")]
mod config;
mod credentials;
mod deletion;
mod documents;
mod kubeconfig;
mod lab_patch;
mod lab_patches;
mod merge;
mod mirrors;
mod own_patches;
mod patch_documents;
pub mod pki;
mod pulls;
mod release;
mod secrets;
mod talosconfig;
mod written;

pub use cluster_config::{ClusterConfig, NodeConfig, RegistryMirror, TalosContract};
pub use config::generate;
pub use credentials::Credentials;
pub use documents::{ConfigError, MachineConfig};
pub use kubeconfig::{AdminKubeconfig, KubeconfigError};
pub use lab_patch::{AppliesTo, LabPatchId, LabPatchLine, UnknownLabPatch};
pub use lab_patches::{LabPatches, Profile};
pub use mirrors::{mirror_ports, mirrored_upstreams};
pub use patch_documents::LabPatch;
pub(crate) use patch_documents::{GODEBUG, GOGC, GOMAXPROCS};
pub use pki::CertificateAndKey;
pub use pulls::{NodeSoftware, pulled_images, system_images};
pub use release::{DefaultImages, TalosRelease};
pub use secrets::{SecretsBundle, SecretsError};
pub use talosconfig::{Talosconfig, talosconfig};
