//! How checks disturb the links of the lab. A fault of the scenario can keep a link unchanged.

use lab_cluster::formation::Cluster;
use lab_model::{
    network::{Impairment, Link, Partition},
    node::NodeName,
};
use lab_plan::cluster::Fault;

use super::CheckError;

/// The links of a cluster while a check disturbs them. Drop restores all links.
pub(super) struct Links<'a> {
    cluster: &'a Cluster,
}

impl<'a> Links<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        Self { cluster }
    }

    pub(super) fn cut(&self, node: &NodeName) -> Result<(), CheckError> {
        if self.is_stuck(node) {
            return Ok(());
        }
        Ok(self.cluster.lan().cut(node)?)
    }

    pub(super) fn shape(&self, node: &NodeName, impairment: Impairment) -> Result<(), CheckError> {
        if self.is_stuck(node) {
            return Ok(());
        }
        Ok(self.cluster.lan().shape(node, impairment)?)
    }

    /// Partitions the LAN. If the link of one member is stuck, the LAN is not partitioned.
    pub(super) fn part(&self, partition: &Partition) -> Result<(), CheckError> {
        let mut members = partition.groups.iter().flatten();
        if members.any(|node| self.is_stuck(node)) {
            return Ok(());
        }
        Ok(self.cluster.lan().partition(partition.clone())?)
    }

    /// Restores all links and ends the partition of the LAN.
    pub(super) fn mend(&self) {
        self.cluster.lan().restore_all();
        self.cluster.lan().heal();
    }

    /// The number of frames that a node's link has dropped so far because of its impairment.
    pub(super) fn lost(&self, node: &NodeName) -> u64 {
        let counters = self.cluster.lan().counters();
        let link = Link::from(node).to_string();
        counters.ports.iter().filter(|port| port.port == link).map(|port| port.dropped_lost).sum()
    }

    fn is_stuck(&self, node: &NodeName) -> bool {
        let faults = &self.cluster.plan().faults;
        faults.iter().any(|fault| matches!(fault, Fault::StuckLink { node: stuck } if stuck == node))
    }
}

impl Drop for Links<'_> {
    fn drop(&mut self) {
        self.mend();
    }
}
