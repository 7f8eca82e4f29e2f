//! Faults injected on purpose, so that negative controls show that the lab notices them.

use serde::{Deserialize, Serialize};

use crate::cluster::Size;
use crate::events::Step;
use crate::node::NodeName;

/// Something done wrong on purpose. Faults are data; the code that forms clusters carries them
/// out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The node's kernel panics during boot.
    KernelPanic {
        /// The node.
        node: NodeName,
    },
    /// The node is never sent its machine config.
    NoConfig {
        /// The node.
        node: NodeName,
    },
    /// The worker's config carries the tokens of another cluster.
    ForeignToken {
        /// The worker.
        node: NodeName,
    },
    /// The node's QEMU process is killed as soon as the step begins.
    KillQemu {
        /// The node.
        node: NodeName,
        /// The step that it does not survive.
        at: Step,
    },
    /// The lab believes that the host has no more memory than this to give.
    HostMemory {
        /// What the lab believes.
        available: Size,
    },
}

impl Fault {
    /// The node that the fault is done to, if it is one.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Fault::KernelPanic { node }
            | Fault::NoConfig { node }
            | Fault::ForeignToken { node }
            | Fault::KillQemu { node, .. } => Some(node),
            Fault::HostMemory { .. } => None,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::KernelPanic { node } => write!(f, "the kernel of {node} panics at boot"),
            Fault::NoConfig { node } => write!(f, "{node} never gets its machine config"),
            Fault::ForeignToken { node } => write!(f, "{node} has the tokens of another cluster"),
            Fault::KillQemu { node, at } => write!(f, "the QEMU of {node} is killed at {}", at.label()),
            Fault::HostMemory { available } => write!(f, "the host seems to have {available} of memory"),
        }
    }
}
