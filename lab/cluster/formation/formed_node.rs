//! A node of a formed cluster, for checks and experiments.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lab_model::{
    events::{Step, Subject},
    node::NodeName,
};
use lab_plan::cluster::{Fault, NodePlan};
use lab_vm::machine::Machine;

use super::{
    cluster::Cluster,
    failure::{Cause, Failure},
    formed::FormedCluster,
    hold::Hold,
    node_handle::{NodeError, NodeHandle},
    node_table::NodeTable,
    steps::{FIRST_PROCESS, LastSeen, REACHABLE, console_line},
};
use crate::{
    kubernetes::{NodeChange, NodeFacts, node_changes},
    machine_api::{ApiError, NodeClient},
    wait::{Condition, Expired, Wait},
};

#[derive(Clone, Copy)]
pub struct FormedNode<'a> {
    formed: &'a FormedCluster,
    handle: NodeHandle<'a>,
}

impl<'a> FormedNode<'a> {
    pub(super) fn new(formed: &'a FormedCluster, handle: NodeHandle<'a>) -> Self {
        Self { formed, handle }
    }

    /// Operations without Kubernetes: pause, kill, reboot, type.
    pub fn handle(&self) -> NodeHandle<'a> {
        self.handle
    }

    /// The plan of the node.
    pub fn plan(&self) -> &'a NodePlan {
        self.handle.plan()
    }

    pub fn name(&self) -> &'a NodeName {
        self.handle.name()
    }

    /// A new authenticated connection to its machine API.
    ///
    /// # Errors
    /// When the node does not respond or does not trust the lab.
    pub async fn connect(&self) -> Result<NodeClient, ApiError> {
        self.cluster().connect(self.plan()).await
    }

    /// Cuts its link to the lab network.
    ///
    /// # Errors
    /// When the switch has no such link.
    pub fn cut_link(&self) -> Result<(), NodeError> {
        self.handle.cut_link()
    }

    /// Restores its link.
    ///
    /// # Errors
    /// When the switch has no such link.
    pub fn restore_link(&self) -> Result<(), NodeError> {
        self.handle.restore_link()
    }

    /// Cuts its power, as if unplugged, and waits until all layers are green again, by reports from the new
    /// boot.
    ///
    /// # Errors
    /// When the node does not recover within the budgets of the steps of a boot.
    pub async fn power_cycle(&self) -> Result<(), Failure> {
        let (cluster, node, subject) = (self.cluster(), self.plan(), self.subject());
        let machine = cluster
            .step(&subject, Step::Boot, |seen| async move {
                let machine = self.handle.machine()?;
                self.cut_power(&machine).await?;
                console_line(&machine, FIRST_PROCESS, &seen).await?;
                Ok(machine)
            })
            .await?;
        let client = tokio::select! {
            client = cluster.secure_api(node, &subject) => client?,
            failure = self.forgotten(&machine) => return Err(failure),
        };
        // A new watch: it starts with the current state of the API server.
        cluster
            .ready(node, &subject, client, NodeTable::watch(self.formed.kubernetes(), cluster.recorder()))
            .await
    }

    /// Cuts the power, and injects the fault "the disk is replaced by an empty one meanwhile".
    async fn cut_power(&self, machine: &Machine) -> Result<(), Cause> {
        if self.cluster().has_fault(self.name(), |fault| matches!(fault, Fault::LostDisk { .. })) {
            machine.pause().await?;
            self.cluster().make_disk_of(self.plan()).await?;
            machine.power_cycle().await?;
            machine.resume().await?;
        } else {
            machine.power_cycle().await?;
        }
        Ok(())
    }

    /// The failure of a node that boots into maintenance mode.
    async fn forgotten(&self, machine: &Machine) -> Failure {
        // If this wait fails, a parallel step fails too and reports the cause better.
        if console_line(machine, REACHABLE, &LastSeen::default()).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.cluster().failure(&self.subject(), Step::SecureApi, Cause::Forgotten).await
    }

    /// Waits until its machine API responds and all its three layers are green.
    ///
    /// # Errors
    /// When they are not green within the budgets of the steps `secure API` and `ready`.
    pub async fn wait_ready(&self) -> Result<(), Failure> {
        let (cluster, node, subject) = (self.cluster(), self.plan(), self.subject());
        let client = cluster.secure_api(node, &subject).await?;
        cluster
            .ready(node, &subject, client, NodeTable::watch(self.formed.kubernetes(), cluster.recorder()))
            .await
    }

    /// Watches the node in Kubernetes until it meets a condition. The limit is for the reference host.
    ///
    /// # Errors
    /// When the node does not meet the condition in time.
    pub async fn wait_until(
        &self,
        limit: Duration,
        condition: impl Condition<NodeFacts>,
    ) -> Result<NodeFacts, Expired<String>> {
        let own = node_changes(self.formed.kubernetes()).filter_map(async |change| match change {
            NodeChange::Seen(facts) if facts.name == self.name().as_str() => Some(*facts),
            _ => None,
        });
        Wait::up_to(self.formed.plan().budgets.on_this_host(limit)).on(own, condition).await
    }

    /// The current hold of its boot, if any.
    ///
    /// # Errors
    /// When the node does not respond.
    pub async fn hold(&self) -> Result<Option<Hold>, ApiError> {
        let call = self.formed.plan().budgets.call;
        let client = self.connect().await?;
        let status = client.machine_status(call).await?;
        let services = client.services(call).await?;
        let facts = self.formed.kubernetes().node(self.name().as_str()).await;
        let ready = facts.is_ok_and(|facts| facts.is_some_and(|facts| facts.readiness.ready));
        Ok(Hold::find(&status, &services, ready, self.formed.plan().boot_timeout()))
    }

    fn cluster(&self) -> &'a Arc<Cluster> {
        self.formed.cluster()
    }

    fn subject(&self) -> Subject {
        Subject::Node(self.name().clone())
    }
}
