//! Whether the lab may restore a cluster instead of forming it.

use serde::{Deserialize, Serialize};

/// The start mode of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Restores a matching saved cluster. If there is none, forms the cluster and saves it.
    #[default]
    Warm,
    /// Always forms the cluster.
    Cold,
}
