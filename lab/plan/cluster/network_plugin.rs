//! Where the pod network comes from: the network plugin (CNI) of the machine configs, or the user's own.

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;

/// Where the pod network comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkPlugin {
    /// What the machine configs say: flannel on Talos, its own on the reference node.
    #[default]
    OfTheConfig,
    /// These manifests; the machine configs say `cni: none`.
    Manifests(Vec<Manifest>),
}
