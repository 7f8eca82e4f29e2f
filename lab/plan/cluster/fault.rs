//! Faults that are put into a cluster on purpose, so that a check can be shown to fail.

use lab_model::{
    events::Step,
    node::{NodeName, Role},
};
use serde::{Deserialize, Serialize};

/// One fault, put into one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The kernel finds no init and panics at boot.
    KernelPanic {
        /// Which node.
        node: NodeName,
    },
    /// The machine config is never sent.
    NoConfig {
        /// Which node.
        node: NodeName,
    },
    /// The machine config carries the bootstrap token of another cluster.
    ForeignToken {
        /// Which node.
        node: NodeName,
    },
    /// The node boots the image of another role, as after a mix-up of images.
    OtherImage {
        /// Which node.
        node: NodeName,
        /// Whose image.
        role: Role,
    },
    /// The node boots its image without one of its extensions.
    MissingExtension {
        /// Which node.
        node: NodeName,
        /// Which extension.
        extension: String,
    },
    /// The node's disk is replaced by an empty one while its power is cut.
    LostDisk {
        /// Which node.
        node: NodeName,
    },
    /// The node's link stays whole whatever a check does to it.
    StuckLink {
        /// Which node.
        node: NodeName,
    },
    /// The lab's time server tells the node a wrong time.
    WrongClock {
        /// Which node.
        node: NodeName,
    },
    /// The node's machine API reports another processor architecture (reference node only).
    OtherArchitecture {
        /// Which node.
        node: NodeName,
    },
    /// The node's QEMU process is killed when a step of it begins.
    KillQemu {
        /// Which node.
        node: NodeName,
        /// At which step.
        at: Step,
    },
}

impl Fault {
    /// The steps at whose beginning a machine can be killed: those that each node takes.
    pub const KILL_STEPS: [Step; 5] =
        [Step::Boot, Step::Maintenance, Step::ApplyConfig, Step::SecureApi, Step::Ready];

    /// Whether a cluster forms as if it were not there: it only comes in when something is done to the
    /// cluster later.
    pub fn comes_later(&self) -> bool {
        matches!(self, Fault::StuckLink { .. } | Fault::LostDisk { .. })
    }

    /// The node it is put into.
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
