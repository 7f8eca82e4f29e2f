//! Fault injection. Faults demonstrate that a check can fail.

use lab_model::{
    events::Step,
    node::{NodeName, Role},
};
use serde::{Deserialize, Serialize};

/// A fault in one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The kernel finds no init and panics at boot.
    KernelPanic {
        /// The affected node.
        node: NodeName,
    },
    /// The lab never sends the machine config.
    NoConfig {
        /// The affected node.
        node: NodeName,
    },
    /// The machine config contains the bootstrap token of another cluster.
    ForeignToken {
        /// The affected node.
        node: NodeName,
    },
    /// The node boots the image of another role, as after a mix-up of images.
    OtherImage {
        node: NodeName,
        /// The role of the image.
        role: Role,
    },
    /// The node boots its image without one of its extensions.
    MissingExtension {
        node: NodeName,
        /// The extension that the image lacks.
        extension: String,
    },
    /// An empty disk replaces the node's disk during a power cut.
    LostDisk {
        /// The affected node.
        node: NodeName,
    },
    /// The node's link stays up even if a check disconnects it.
    StuckLink {
        /// The affected node.
        node: NodeName,
    },
    /// The lab's time server sends a wrong time to the node.
    WrongClock {
        /// The affected node.
        node: NodeName,
    },
    /// The node's machine API reports another processor architecture (reference node only).
    OtherArchitecture {
        /// The affected node.
        node: NodeName,
    },
    /// The lab kills the node's QEMU process at the start of a step.
    KillQemu {
        node: NodeName,
        /// The step that triggers the kill.
        at: Step,
    },
}

impl std::fmt::Display for Fault {
    /// The name of the fault in scenario files, and its node.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Fault::KernelPanic { .. } => "kernel-panic",
            Fault::NoConfig { .. } => "no-config",
            Fault::ForeignToken { .. } => "foreign-token",
            Fault::OtherImage { .. } => "other-image",
            Fault::MissingExtension { .. } => "missing-extension",
            Fault::LostDisk { .. } => "lost-disk",
            Fault::StuckLink { .. } => "stuck-link",
            Fault::WrongClock { .. } => "wrong-clock",
            Fault::OtherArchitecture { .. } => "other-architecture",
            Fault::KillQemu { .. } => "kill-qemu",
        };
        write!(f, "{name} on {}", self.node())
    }
}

impl Fault {
    /// The steps that can trigger a kill. Every node runs these steps.
    pub const KILL_STEPS: [Step; 5] =
        [Step::Boot, Step::Maintenance, Step::ApplyConfig, Step::SecureApi, Step::Ready];

    /// Returns whether the fault leaves formation intact and affects only later operations on the
    /// cluster.
    pub fn comes_later(&self) -> bool {
        matches!(self, Fault::StuckLink { .. } | Fault::LostDisk { .. })
    }

    /// Returns the affected node.
    pub fn node(&self) -> &NodeName {
        match self {
            Fault::KernelPanic { node }
            | Fault::NoConfig { node }
            | Fault::ForeignToken { node }
            | Fault::LostDisk { node }
            | Fault::StuckLink { node }
            | Fault::OtherArchitecture { node }
            | Fault::WrongClock { node }
            | Fault::OtherImage { node, .. }
            | Fault::MissingExtension { node, .. }
            | Fault::KillQemu { node, .. } => node,
        }
    }
}
