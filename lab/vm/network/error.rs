//! Errors of the LAN.

use std::path::PathBuf;

use lab_model::{
    network::{ImpairmentError, LanPlanError, Link, PartitionError},
    node::NodeName,
};

use crate::{machine::QmpError, process::ProcessError};

/// The reason why the LAN could not be started, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The plan is inconsistent.
    #[error(transparent)]
    Plan(#[from] LanPlanError),
    /// A socket, file or thread cannot be created.
    #[error("cannot {action} for the lab network at {}", path.display())]
    File {
        /// The failed action, as a verb.
        action: &'static str,
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The uplink's QEMU cannot be started.
    #[error("the lab network's uplink does not start")]
    Process(#[from] ProcessError),
    /// The uplink's QEMU ended.
    #[error("the lab network's uplink ended ({status}): {stderr}; nodes and host no longer reach each other")]
    UplinkEnded {
        /// Exit status in a form for people.
        status: String,
        /// QEMU's standard error.
        stderr: String,
    },
    /// The uplink's QEMU did not connect in time.
    #[error("the lab network's uplink did not connect within {seconds} s; the host may be overloaded")]
    UplinkSilent {
        /// The time that the lab waited.
        seconds: u64,
    },
    /// The uplink's monitor failed.
    #[error("cannot {action} on the lab network's uplink")]
    Monitor {
        /// The failed action, as a verb.
        action: &'static str,
        /// The error of the monitor.
        source: QmpError,
    },
    /// QEMU did not open a forward.
    #[error("no host port leads to {node}'s port {port}: QEMU said \"{seen}\"")]
    Forward {
        node: NodeName,
        /// The TCP port of the node.
        port: u16,
        /// QEMU's answer.
        seen: String,
    },
    /// The node does not exist.
    #[error("{node} is not attached to the lab network")]
    UnknownNode {
        /// The requested node.
        node: NodeName,
    },
    /// The link does not exist.
    #[error("the lab network has no link {link}; its links are {links} and uplink")]
    UnknownLink {
        /// The requested link.
        link: Link,
        /// The existing links.
        links: String,
    },
    /// The impairment is invalid for the link.
    #[error("the link of {link} cannot be shaped")]
    Impairment {
        link: Link,
        /// The reason why it is invalid.
        source: ImpairmentError,
    },
    /// The partition is invalid for the LAN.
    #[error("the lab network cannot be partitioned")]
    Partition(#[from] PartitionError),
    /// A capture cannot be started.
    #[error("cannot capture the link of {link} to {}", file.display())]
    Capture {
        link: Link,
        /// The file of the capture.
        file: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// There is no capture to stop.
    #[error("the link of {link} is not being captured")]
    NotCaptured {
        /// The requested link.
        link: Link,
    },
}
