//! Prefixes that more than one node advertises. Only one of the nodes receives the packets.

use std::{collections::BTreeMap, fmt};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::TailnetNode;

/// A prefix that several nodes advertise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedPrefix {
    pub prefix: IpNet,
    /// The names of the nodes that advertise it.
    pub nodes: Vec<String>,
    /// The node that the control server selected.
    pub primary: Option<String>,
}

/// Returns the prefixes that two or more of `nodes` advertise. A cluster has exactly one gateway, so each
/// of them is a configuration error: the control server then selects the node that routes the packets.
pub fn shared_prefixes(nodes: &[TailnetNode]) -> Vec<SharedPrefix> {
    let mut advertisers: BTreeMap<IpNet, Vec<&TailnetNode>> = BTreeMap::new();
    for node in nodes {
        for prefix in &node.advertised {
            advertisers.entry(*prefix).or_default().push(node);
        }
    }
    advertisers
        .into_iter()
        .filter(|(_, nodes)| nodes.len() > 1)
        .map(|(prefix, nodes)| SharedPrefix {
            prefix,
            primary: nodes.iter().find(|node| node.primary.contains(&prefix)).map(|node| node.name.clone()),
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
        })
        .collect()
}

impl fmt::Display for SharedPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let primary = match &self.primary {
            Some(name) => format!("{name} gets the packets"),
            None => "none of them is approved".to_owned(),
        };
        write!(
            f,
            "{} is advertised by {}; {primary}: let exactly one gateway advertise it",
            self.prefix,
            self.nodes.join(" and ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_with_one_prefix_are_reported_with_the_one_that_was_chosen() {
        let json = r#"[{"id":1,"name":"a","available_routes":["10.244.0.0/16","10.96.0.0/12"],"subnet_routes":["10.96.0.0/12"]},
                       {"id":2,"name":"b","available_routes":["10.244.0.0/16"],"subnet_routes":["10.244.0.0/16"]}]"#;
        let nodes: Vec<TailnetNode> = serde_json::from_str(json).unwrap();
        let shared = shared_prefixes(&nodes);
        assert_eq!(shared.len(), 1);
        assert_eq!(
            shared[0].to_string(),
            "10.244.0.0/16 is advertised by a and b; b gets the packets: let exactly one gateway advertise it"
        );
        assert_eq!(shared_prefixes(&nodes[..1]), []);
    }
}
