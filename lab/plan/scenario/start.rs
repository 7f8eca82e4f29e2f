//! Whether a cluster may be restored instead of formed.

use serde::{Deserialize, Serialize};

/// How a cluster comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// It is restored when one like it was saved before; else it forms, and is saved.
    #[default]
    Warm,
    /// It forms.
    Cold,
}
