//! `lab node`: the nodes of a running lab.

use clap::{Args, Subcommand};
use lab_cluster::control::Request;
use lab_model::{ExitCode, node::NodeName};

use super::{Failed, live::Console, net::How};

/// Nodes of a running lab.
#[derive(Subcommand)]
pub enum NodeCommand {
    /// Show the serial console of a node and follow it
    Console(Console),
    /// Stop the CPUs of a node
    Pause(OneNode),
    /// Start the CPUs of a paused node
    Resume(OneNode),
    /// Kill the QEMU process of a node, as a crash would
    Kill(OneNode),
    /// Reboot a node through its machine API, or with its power switch; start a killed node again
    Reboot(OneNode),
}

/// A node of a running lab.
#[derive(Args)]
pub struct OneNode {
    /// Name of the node
    node: NodeName,
    #[command(flatten)]
    how: How,
}

impl NodeCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let (how, request) = match self {
            Self::Console(console) => return console.run(),
            Self::Pause(OneNode { node, how }) => (how, Request::Pause { node }),
            Self::Resume(OneNode { node, how }) => (how, Request::Resume { node }),
            Self::Kill(OneNode { node, how }) => (how, Request::Kill { node }),
            Self::Reboot(OneNode { node, how }) => (how, Request::Reboot { node }),
        };
        how.ask(&request)
    }
}
