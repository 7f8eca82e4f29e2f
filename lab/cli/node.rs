//! `lab pause|resume|kill|reboot NODE`: what is done to the nodes of a living lab.

use clap::Args;
use lab_cluster::control::Request;
use lab_model::{ExitCode, node::NodeName};

use super::{Failed, fault::How};

/// One node of a living lab.
#[derive(Args)]
pub struct NodeCommand {
    /// The node
    node: NodeName,
    #[command(flatten)]
    how: How,
}

impl NodeCommand {
    pub(super) fn run(self, request: impl FnOnce(NodeName) -> Request) -> Result<ExitCode, Failed> {
        self.how.ask(&request(self.node))
    }
}
