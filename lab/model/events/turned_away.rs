use std::fmt;

use serde::{Deserialize, Serialize};

/// What of a node its cluster does not accept, as the logs of the node's services tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TurnedAway {
    /// The token by which kubelet asks for its certificate, `cluster.token`.
    BootstrapToken,
    /// The certificate authority that the node takes for the cluster's, `cluster.ca`.
    ClusterCa,
    /// The token by which apid asks for its certificate, `machine.token`.
    MachineToken,
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BootstrapToken => "bootstrap token",
            Self::ClusterCa => "cluster CA",
            Self::MachineToken => "machine token",
        })
    }
}
