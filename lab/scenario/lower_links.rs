//! What a scenario file does to links: checks that disturb them, and captures.

use std::str::FromStr;
use std::time::Duration;

use super::check::Check;
use super::file::Lowering;
use super::raw::{
    RawScenario, Text,
    check::{RawLinkCut, RawLinkShape, RawPartition, RawUplink},
};
use crate::cluster::ClusterSpec;
use crate::diagnostic::Diagnostic;
use crate::network::{Impairment, Link, Partition, UplinkSide};
use crate::node::{Kind, NodeName};

/// How long a partition lasts unless it is said.
const PARTITION_SECONDS: u32 = 30;
/// The longest that a scenario may ask for.
const LONGEST_PARTITION: u32 = 3600;

/// The links whose frames are to be kept.
pub(super) fn lower_captures(
    lowering: &mut Lowering<'_>,
    raw: &RawScenario,
    cluster: &ClusterSpec,
) -> Vec<Link> {
    let mut links = Vec::new();
    for text in &raw.captures {
        let link = match text.value.as_str() {
            "uplink" => Some(Link::Uplink),
            _ => lowering.node(text, cluster).map(Link::Node),
        };
        match link {
            Some(link) if links.contains(&link) => {
                lowering.report(
                    Diagnostic::at(text, format!("{link} is captured twice")).help("name a link once"),
                );
            }
            link => links.extend(link),
        }
    }
    links
}

impl Lowering<'_> {
    pub(super) fn link_cut(&mut self, raw: &RawLinkCut, cluster: &ClusterSpec) -> Option<Check> {
        let node = self.node(&raw.node, cluster)?;
        if cluster.node(&node).is_some_and(|spec| spec.kind == Kind::ControlPlane) {
            let message =
                format!("{node} is the control plane: while its link is cut, nobody tells what it misses");
            self.report(Diagnostic::at(&raw.node, message).help("name a worker, or use the check partition"));
            return None;
        }
        Some(Check::LinkCut { node })
    }

    pub(super) fn partition(&mut self, raw: &RawPartition, cluster: &ClusterSpec) -> Option<Check> {
        let mut groups = Vec::new();
        for group in &raw.groups.value {
            groups.push(self.nodes_named(group, cluster)?);
        }
        let uplink = match &raw.uplink {
            RawUplink::All => UplinkSide::All,
            RawUplink::Nodes(names) => UplinkSide::Nodes(self.nodes_named(names, cluster)?),
        };
        if uplink == UplinkSide::Nodes(Vec::new()) {
            let problem =
                Diagnostic::at(&raw.groups, "nobody keeps the uplink, so nobody could be asked anything");
            self.report(problem.help("name a node in `uplink`, or leave it out"));
            return None;
        }
        let partition = Partition { groups, uplink };
        let nodes: Vec<&NodeName> = cluster.nodes.iter().map(|node| &node.name).collect();
        if let Err(error) = partition.check(&nodes) {
            self.report(Diagnostic::at(&raw.groups, error.to_string()));
            return None;
        }
        let seconds = raw.lasts.as_ref().map_or(PARTITION_SECONDS, |lasts| lasts.value);
        if let Some(lasts) = &raw.lasts
            && !(1..=LONGEST_PARTITION).contains(&seconds)
        {
            let message = format!("a partition cannot last {seconds} s");
            self.report(
                Diagnostic::at(lasts, message).help(format!("give 1 to {LONGEST_PARTITION} seconds")),
            );
            return None;
        }
        Some(Check::Partition { partition, lasts: Duration::from_secs(seconds.into()) })
    }

    pub(super) fn link_shape(&mut self, raw: &RawLinkShape, cluster: &ClusterSpec) -> Option<Check> {
        let node = self.node(&raw.node, cluster)?;
        let impairment = Impairment {
            delay: self.quantity(&raw.delay)?.unwrap_or_default(),
            jitter: self.quantity(&raw.jitter)?.unwrap_or_default(),
            loss: self.quantity(&raw.loss)?.unwrap_or_default(),
            rate: self.quantity(&raw.rate)?,
            seed: raw.seed.unwrap_or_default(),
        };
        if let Err(error) = impairment.check() {
            self.report(Diagnostic::at(&raw.node, error.to_string()));
            return None;
        }
        Some(Check::LinkShape { node, impairment })
    }

    /// A quantity if it is given; `None` when what is given is none.
    fn quantity<T>(&mut self, text: &Option<Text>) -> Option<Option<T>>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        match text {
            None => Some(None),
            Some(text) => self.parsed(text).map(Some),
        }
    }

    fn nodes_named(&mut self, names: &[Text], cluster: &ClusterSpec) -> Option<Vec<NodeName>> {
        names.iter().map(|name| self.node(name, cluster)).collect()
    }
}
