//! Responses of a running lab.

use std::{fmt, path::PathBuf};

use lab_model::node::NodeName;
use lab_vm::network::LanFaults;
use serde::{Deserialize, Serialize};

/// The response to one request, as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The request succeeded.
    Done {
        /// A message for the user.
        text: String,
        /// The related file, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
    },
    /// The state of the nodes and links.
    Status(ClusterState),
    /// The request failed.
    Error {
        /// The error message.
        message: String,
    },
}

/// The state of the nodes and links of a running cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    pub nodes: Vec<NodeState>,
    /// The faults of its links.
    pub network: LanFaults,
}

/// The state of a node's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    pub node: NodeName,
    pub running: Running,
}

/// The run state of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Running {
    Yes,
    /// The CPUs are stopped.
    Paused,
    /// No QEMU process exists, because it has not started yet or has ended.
    Gone,
}

impl Answer {
    /// A success message.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self::Done { text: text.into(), file: None }
    }

    /// A success message with the related file.
    pub(super) fn with_file(text: impl Into<String>, file: PathBuf) -> Self {
        Self::Done { text: text.into(), file: Some(file) }
    }

    /// Returns the line, including the newline.
    pub(super) fn to_line(&self) -> String {
        // Serialization to JSON cannot fail for these types.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for ClusterState {
    /// Writes a line for each node, then a line for each network fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for NodeState { node, running } in &self.nodes {
            let words = match running {
                Running::Yes => "running",
                Running::Paused => "paused",
                Running::Gone => "gone: it has no QEMU",
            };
            writeln!(f, "{node:<12} {words}")?;
        }
        for (link, fault) in &self.network.links {
            writeln!(f, "{link:<12} link {fault}")?;
        }
        if let Some(partition) = &self.network.partition {
            writeln!(f, "network partitioned: {partition}")?;
        }
        for capture in &self.network.captures {
            write!(
                f,
                "{:<12} captured to {}, {} frames",
                capture.link,
                capture.file.display(),
                capture.frames
            )?;
            match &capture.stopped {
                Some(why) => writeln!(f, ", no more: {why}")?,
                None => writeln!(f)?,
            }
        }
        if self.network.links.is_empty() && self.network.partition.is_none() {
            writeln!(f, "no link is cut or shaped")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_model::network::{Impairment, LinkFault, Loss, Partition, UplinkSide};

    #[test]
    fn a_state_reads_line_by_line_and_survives_as_json() {
        let lossy = Impairment { loss: Loss::percent(2), ..Impairment::default() };
        let node = |node: &str, running| NodeState { node: node.parse().unwrap(), running };
        let state = ClusterState {
            nodes: vec![
                node("cp-1", Running::Yes),
                node("worker-1", Running::Paused),
                node("worker-2", Running::Gone),
            ],
            network: LanFaults {
                links: vec![
                    ("worker-1".parse().unwrap(), LinkFault::Cut),
                    ("uplink".parse().unwrap(), LinkFault::Shaped(lossy)),
                ],
                partition: Some(Partition::parse("cp-1", UplinkSide::All).unwrap()),
                captures: Vec::new(),
            },
        };
        insta::assert_snapshot!(state, @r"
        cp-1         running
        worker-1     paused
        worker-2     gone: it has no QEMU
        worker-1     link cut
        uplink       link shaped: loss 2%
        network partitioned: cp-1; uplink for all
        ");
        let answer = Answer::Status(state);
        assert_eq!(serde_json::from_str::<Answer>(&answer.to_line()).unwrap(), answer);
        assert_eq!(Answer::done("cut").to_line(), "{\"done\":{\"text\":\"cut\"}}\n");
    }
}
