//! The source of the pod network: the network plugin (CNI) in the machine configs, or the user's plugin.

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;

/// The source of the pod network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkPlugin {
    /// The plugin in the machine configs: flannel on Talos, the built-in plugin on the reference node.
    #[default]
    OfTheConfig,
    /// The plugin in these manifests. The machine configs contain `cni: none`.
    Manifests(Vec<Manifest>),
}
