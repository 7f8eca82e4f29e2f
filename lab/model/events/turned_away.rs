use std::fmt;

use serde::{Deserialize, Serialize};

/// The node credential that the cluster rejects, according to the logs of the node services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TurnedAway {
    /// The kubelet's bootstrap token for its certificate request, `cluster.token`.
    BootstrapToken,
    /// The certificate authority that the node uses for the cluster, `cluster.ca`.
    ClusterCa,
    /// The apid token for its certificate request, `machine.token`.
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
