//! The QEMU accelerators and the CPU model of a guest.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The QEMU accelerator that runs guest instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Linux KVM. The host architecture must match the guest architecture.
    Kvm,
    /// Apple Hypervisor.framework. The host architecture must match the guest architecture.
    Hvf,
    /// QEMU's Tiny Code Generator. Runs on any host, several times slower than hardware virtualization.
    Tcg,
}

impl Accelerator {
    /// Returns the QEMU spelling, as in `-accel kvm`.
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

/// The reason an accelerator is not available.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AcceleratorError {
    /// The text does not name an accelerator.
    #[error("\"{0}\" is not an accelerator; use kvm, hvf or tcg")]
    Unknown(String),
    /// The user requested an accelerator that this host or this QEMU binary does not support.
    #[error("accelerator {wanted} was requested, but {obstacle}; leave the choice to the lab or use tcg")]
    Unavailable {
        wanted: Accelerator,
        /// The reason the accelerator is unavailable.
        obstacle: String,
    },
    /// The QEMU binary supports none of the three accelerators.
    #[error("{qemu} offers no usable accelerator ({obstacles}); install a QEMU that has TCG compiled in")]
    Nothing {
        /// The QEMU binary.
        qemu: String,
        /// The reason for each accelerator.
        obstacles: String,
    },
}

/// A QEMU CPU model with its properties, as in `-cpu max,pauth=off`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuModel(String);

impl CpuModel {
    /// Creates a CPU model from its QEMU spelling.
    pub fn new(model: impl Into<String>) -> Self {
        Self(model.into())
    }

    /// Returns the fastest model that runs Kubernetes and Talos. Under TCG, the model disables three
    /// features: pointer authentication, because its emulated cipher alone makes a guest ten times slower;
    /// scalable vectors, because they only increase the task state; and 52-bit addresses, because they add
    /// a level to every page table walk.
    pub fn default_for(accelerator: Accelerator) -> Self {
        Self::new(match accelerator {
            Accelerator::Kvm | Accelerator::Hvf => "host",
            Accelerator::Tcg => "max,pauth=off,sve=off,lpa2=off",
        })
    }

    /// Returns the QEMU spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
