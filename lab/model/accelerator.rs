//! How QEMU executes a guest's instructions, and which CPU the guest sees.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How QEMU executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Linux kernel virtual machine; the host has the guest's architecture.
    Kvm,
    /// Apple's Hypervisor.framework; the host has the guest's architecture.
    Hvf,
    /// QEMU's own translator: any host, several times slower.
    Tcg,
}

impl Accelerator {
    /// QEMU's spelling, as in `-accel kvm`.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Hvf => "hvf",
            Accelerator::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Accelerator {
    type Err = AcceleratorError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Tcg]
            .into_iter()
            .find(|accelerator| accelerator.name() == s)
            .ok_or_else(|| AcceleratorError::Unknown(s.to_owned()))
    }
}

/// Why the wanted accelerator cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AcceleratorError {
    /// Not a name of an accelerator.
    #[error("\"{0}\" is not an accelerator; use kvm, hvf or tcg")]
    Unknown(String),
    /// The user insists on one that this host or this QEMU does not have.
    #[error("accelerator {wanted} was asked for, but {obstacle}; leave the choice to the lab or use tcg")]
    Unavailable {
        /// The accelerator that was asked for.
        wanted: Accelerator,
        /// What stands in the way.
        obstacle: String,
    },
    /// The binary offers none of the three.
    #[error("{qemu} offers no usable accelerator ({obstacles}); install a QEMU that has TCG compiled in")]
    Nothing {
        /// The binary that was asked.
        qemu: String,
        /// Per accelerator, what stands in the way.
        obstacles: String,
    },
}

/// QEMU's name of a CPU model with its properties, as in `-cpu max,pauth=off`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuModel(String);

impl CpuModel {
    /// A model by QEMU's spelling.
    pub fn new(model: impl Into<String>) -> Self {
        Self(model.into())
    }

    /// The fastest model that Kubernetes and Talos run on. Under TCG that is everything except
    /// pointer authentication, whose emulated cipher alone makes a guest ten times slower, the
    /// scalable vectors, which only make a task's state larger, and 52-bit addresses, which make
    /// every walk of the page tables a level longer.
    pub fn default_for(accelerator: Accelerator) -> Self {
        Self::new(match accelerator {
            Accelerator::Kvm | Accelerator::Hvf => "host",
            Accelerator::Tcg => "max,pauth=off,sve=off,lpa2=off",
        })
    }

    /// QEMU's spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
