//! Why the LAN could not be started, or ended.

use std::path::PathBuf;

use lab_model::{
    network::{ImpairmentError, LanPlanError, Link, PartitionError},
    node::NodeName,
};

use crate::{machine::QmpError, process::ProcessError};

/// Why the LAN could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The plan contradicts itself.
    #[error(transparent)]
    Plan(#[from] LanPlanError),
    /// A socket, file or thread cannot be made.
    #[error("cannot {action} for the lab network at {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The uplink's QEMU cannot be started.
    #[error("the lab network's uplink does not start")]
    Process(#[from] ProcessError),
    /// The uplink's QEMU ended.
    #[error("the lab network's uplink ended ({status}): {stderr}; nodes and host no longer reach each other")]
    UplinkEnded {
        /// Exit status in words.
        status: String,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// The uplink's QEMU did not connect in time.
    #[error("the lab network's uplink did not connect within {seconds} s; the host may be overloaded")]
    UplinkSilent {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The uplink's monitor failed.
    #[error("cannot {action} on the lab network's uplink")]
    Monitor {
        /// What was tried, as a verb.
        action: &'static str,
        /// Why.
        source: QmpError,
    },
    /// QEMU did not set up a forward.
    #[error("no host port leads to {node}'s port {port}: QEMU said \"{seen}\"")]
    Forward {
        /// Whose port.
        node: NodeName,
        /// Which port.
        port: u16,
        /// QEMU's answer.
        seen: String,
    },
    /// There is no such node.
    #[error("{node} is not attached to the lab network")]
    UnknownNode {
        /// The name.
        node: NodeName,
    },
    /// There is no such link.
    #[error("the lab network has no link {link}; its links are {links} and uplink")]
    UnknownLink {
        /// The name.
        link: Link,
        /// The nodes' links.
        links: String,
    },
    /// A link cannot be impaired so.
    #[error("the link of {link} cannot be shaped")]
    Impairment {
        /// The name.
        link: Link,
        /// Why.
        source: ImpairmentError,
    },
    /// The LAN cannot be parted so.
    #[error("the lab network cannot be parted")]
    Partition(#[from] PartitionError),
    /// A capture cannot be started.
    #[error("cannot capture the link of {link} to {}", file.display())]
    Capture {
        /// The name.
        link: Link,
        /// Where to.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is nothing to stop.
    #[error("the link of {link} is not being captured")]
    NotCaptured {
        /// The name.
        link: Link,
    },
}
