//! Network partitions, as plain data.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::node::{InvalidNodeName, NodeName};

/// Groups of nodes. Frames do not pass between groups. All nodes without a group form one additional group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    pub groups: Vec<Vec<NodeName>>,
    /// The nodes that keep the uplink.
    #[serde(default)]
    pub uplink: UplinkSide,
}

/// The nodes that keep the uplink, and with it the gateway services (DHCP, DNS, NTP) and the image
/// registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UplinkSide {
    /// All nodes.
    #[default]
    All,
    /// No node.
    None,
    /// Only these nodes.
    Nodes(Vec<NodeName>),
}

/// The reason a partition is invalid.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PartitionError {
    /// The node does not exist.
    #[error("{node} is not attached to the lab network")]
    UnknownNode {
        /// The name, which no attachment has.
        node: NodeName,
    },
    /// A node is in two groups.
    #[error("{node} is in two groups; a node is in one group or in none")]
    Twice {
        /// The name of the node.
        node: NodeName,
    },
    /// A group has no nodes.
    #[error("a group has no nodes; write groups as cp-1 / worker-1,worker-2")]
    Empty,
    /// The partition separates no nodes.
    #[error("nothing would be partitioned: all nodes are in one group and keep the uplink")]
    Whole,
    /// A word is not a node name.
    #[error(transparent)]
    Name(#[from] InvalidNodeName),
}

/// A partition in terms of switch ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides {
    /// The group of each node port.
    groups: Vec<usize>,
    /// Whether each node keeps the uplink.
    uplink: Vec<bool>,
}

impl Partition {
    /// Parses groups in the form `cp-1 / worker-1,worker-2`. Spaces also separate names.
    ///
    /// # Errors
    /// Returns an error if a word is not a name or a group is empty.
    pub fn parse(groups: &str, uplink: UplinkSide) -> Result<Self, PartitionError> {
        let group = |text: &str| {
            let names = text.split([',', ' ']).filter(|name| !name.is_empty()).map(NodeName::new);
            let names = names.collect::<Result<Vec<_>, _>>()?;
            if names.is_empty() { Err(PartitionError::Empty) } else { Ok(names) }
        };
        Ok(Self { groups: groups.split('/').map(group).collect::<Result<_, _>>()?, uplink })
    }

    /// Checks that the partition is valid for these nodes.
    ///
    /// # Errors
    /// Returns an error if the partition is invalid or separates no nodes.
    pub fn check(&self, nodes: &[&NodeName]) -> Result<(), PartitionError> {
        self.sides(nodes).map(drop)
    }

    /// Reports whether frames pass between two nodes.
    pub fn is_one_group(&self, one: &NodeName, other: &NodeName) -> bool {
        let group = |node: &NodeName| self.groups.iter().position(|group| group.contains(node));
        group(one) == group(other)
    }

    /// Reports whether a node keeps the uplink.
    pub fn keeps_uplink(&self, node: &NodeName) -> bool {
        match &self.uplink {
            UplinkSide::All => true,
            UplinkSide::None => false,
            UplinkSide::Nodes(nodes) => nodes.contains(node),
        }
    }

    /// Returns the sides of all ports. `nodes` lists the nodes in port order.
    pub fn sides(&self, nodes: &[&NodeName]) -> Result<Sides, PartitionError> {
        let index = |node: &NodeName| {
            let found = nodes.iter().position(|known| *known == node);
            found.ok_or_else(|| PartitionError::UnknownNode { node: node.clone() })
        };
        // Group 0 contains the nodes without a group.
        let mut groups = vec![0; nodes.len()];
        for (number, group) in self.groups.iter().enumerate() {
            if group.is_empty() {
                return Err(PartitionError::Empty);
            }
            for node in group {
                let side = &mut groups[index(node)?];
                if *side != 0 {
                    return Err(PartitionError::Twice { node: node.clone() });
                }
                *side = number + 1;
            }
        }
        let mut uplink = vec![self.uplink == UplinkSide::All; nodes.len()];
        if let UplinkSide::Nodes(keepers) = &self.uplink {
            for node in keepers {
                uplink[index(node)?] = true;
            }
        }
        let whole = groups.iter().all(|group| *group == groups[0]) && uplink.iter().all(|kept| *kept);
        if whole { Err(PartitionError::Whole) } else { Ok(Sides { groups, uplink }) }
    }
}

impl Sides {
    /// Reports whether frames pass between two ports. The uplink port follows the last node port.
    pub fn pass(&self, from: usize, to: usize) -> bool {
        match (self.groups.get(from), self.groups.get(to)) {
            (Some(one), Some(other)) => one == other,
            (Some(_), None) => self.uplink[from],
            (None, Some(_)) => self.uplink[to],
            (None, None) => true,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(|group| list(group)).collect();
        write!(f, "{}; uplink for {}", groups.join(" / "), self.uplink)
    }
}

impl fmt::Display for UplinkSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Nodes(nodes) => f.write_str(&list(nodes)),
        }
    }
}

impl FromStr for UplinkSide {
    type Err = InvalidNodeName;
    /// Parses `all`, `none`, or a comma-separated list of names.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "all" => Self::All,
            "none" => Self::None,
            names => Self::Nodes(names.split(',').map(NodeName::new).collect::<Result<_, _>>()?),
        })
    }
}

fn list(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn sides(groups: &str, uplink: &str) -> Result<Sides, PartitionError> {
        let nodes = ["cp-1", "worker-1", "worker-2"].map(node);
        Partition::parse(groups, uplink.parse().unwrap())?.sides(&nodes.each_ref())
    }

    #[test]
    fn frames_pass_within_a_group_and_to_the_uplink_of_those_that_keep_it() {
        let sides = sides("cp-1 / worker-1, worker-2", "worker-1").unwrap();
        assert!(sides.pass(1, 2) && sides.pass(2, 1));
        assert!(!sides.pass(0, 1) && !sides.pass(2, 0));
        assert_eq!([0, 1, 2].map(|port| sides.pass(port, 3)), [false, true, false]);
        assert_eq!([0, 1, 2].map(|port| sides.pass(3, port)), [false, true, false]);
    }

    #[test]
    fn what_is_asked_by_name_is_what_is_done_by_port() {
        let nodes = ["cp-1", "worker-1", "worker-2"].map(node);
        for (groups, uplink) in [("cp-1", "all"), ("cp-1 / worker-1", "worker-2"), ("worker-1,cp-1", "none")]
        {
            let partition = Partition::parse(groups, uplink.parse().unwrap()).unwrap();
            let sides = partition.sides(&nodes.each_ref()).unwrap();
            for (from, one) in nodes.iter().enumerate() {
                assert_eq!(partition.keeps_uplink(one), sides.pass(from, 3));
                for (to, other) in nodes.iter().enumerate() {
                    assert_eq!(partition.is_one_group(one, other), sides.pass(from, to));
                }
            }
        }
    }

    #[test]
    fn nodes_of_no_group_are_one_together() {
        let sides = sides("cp-1", "all").unwrap();
        assert!(sides.pass(1, 2) && !sides.pass(0, 1) && sides.pass(0, 3));
    }

    #[test]
    fn a_partition_that_cannot_be_made_is_refused() {
        assert_eq!(sides("cp-1 / cp-2", "all"), Err(PartitionError::UnknownNode { node: node("cp-2") }));
        assert_eq!(sides("cp-1 / cp-1", "all"), Err(PartitionError::Twice { node: node("cp-1") }));
        assert_eq!(sides("cp-1 /", "all"), Err(PartitionError::Empty));
        assert_eq!(sides("cp-1,worker-1,worker-2", "all"), Err(PartitionError::Whole));
        assert!(sides("cp-1,worker-1,worker-2", "none").is_ok());
        assert!(matches!(sides("CP", "all"), Err(PartitionError::Name(_))));
        assert!(matches!(sides("cp-1", "nobody"), Err(PartitionError::UnknownNode { .. })));
    }

    #[test]
    fn a_partition_reads_as_it_is_written_and_survives_as_json() {
        let partition =
            Partition::parse("cp-1 / worker-1 worker-2", UplinkSide::Nodes(vec![node("cp-1")])).unwrap();
        assert_eq!(partition.to_string(), "cp-1 / worker-1, worker-2; uplink for cp-1");
        let text = serde_json::to_string(&partition).unwrap();
        assert_eq!(text, r#"{"groups":[["cp-1"],["worker-1","worker-2"]],"uplink":{"nodes":["cp-1"]}}"#);
        assert_eq!(serde_json::from_str::<Partition>(&text).unwrap(), partition);
        let short: Partition = serde_json::from_str(r#"{"groups":[["cp-1"]]}"#).unwrap();
        assert_eq!(short.uplink, UplinkSide::All);
    }
}
