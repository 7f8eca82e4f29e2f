//! Operations on one node of a cluster at any time, for the control channel and for experiments.

use std::{fmt, io, sync::Arc, time::Duration};

use lab_model::node::NodeName;
use lab_plan::cluster::NodePlan;
use lab_vm::{
    machine::{Machine, MachineError},
    network::NetworkError,
};

use super::{
    cluster::Cluster,
    failure::{Cause, NoMachine},
};
use crate::machine_api::BootReason;

/// Time limit for a node to accept a reboot before the lab cuts its power.
const AGREE: Duration = Duration::from_secs(10);

/// A node of a live cluster, whether or not the cluster has formed.
#[derive(Clone, Copy)]
pub struct NodeHandle<'a> {
    cluster: &'a Cluster,
    plan: &'a NodePlan,
}

/// The state of a node's machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    Running,
    /// Its CPUs are stopped.
    Paused,
    /// QEMU does not run: it was not started yet, or it exited.
    Gone,
}

/// How a node was rebooted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reboot {
    /// Its QEMU had exited and was started again with the same disk.
    Started,
    /// Its machine API accepted the reboot.
    Agreed,
    /// Its power was cut because its machine API did not accept the reboot.
    PowerCycled {
        /// The message of the machine API.
        refusal: String,
    },
    /// Its power was cut because it was paused.
    PowerCycledWhilePaused,
}

/// Why an operation on a node failed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node does not exist.
    #[error("there is no node {node}; the nodes are {nodes}")]
    Unknown {
        /// The requested name.
        node: String,
        /// The existing names.
        nodes: String,
    },
    /// Its QEMU does not run.
    #[error(transparent)]
    NoMachine(#[from] NoMachine),
    /// Its QEMU did not execute the command.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Its QEMU could not be started.
    #[error(transparent)]
    Boot(#[from] Cause),
    /// Its serial console accepted no input.
    #[error("{node}: its serial console accepts no input: {source}")]
    Console { node: NodeName, source: io::Error },
    /// Its link could not be changed.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Cluster {
    /// The node with that name.
    ///
    /// # Errors
    /// When the node does not exist; the error lists the existing names.
    pub fn node(&self, name: impl fmt::Display) -> Result<NodeHandle<'_>, NodeError> {
        let name = name.to_string();
        let nodes = || self.plan().nodes.iter();
        match nodes().find(|node| node.spec.name.as_str() == name) {
            Some(plan) => Ok(self.node_of(plan)),
            None => {
                let names: Vec<_> = nodes().map(|node| node.spec.name.as_str()).collect();
                Err(NodeError::Unknown { node: name, nodes: names.join(", ") })
            }
        }
    }

    /// A node by its plan.
    pub fn node_of<'a>(&'a self, plan: &'a NodePlan) -> NodeHandle<'a> {
        NodeHandle { cluster: self, plan }
    }
}

impl<'a> NodeHandle<'a> {
    /// The plan of the node.
    pub fn plan(&self) -> &'a NodePlan {
        self.plan
    }

    pub fn name(&self) -> &'a NodeName {
        &self.plan.spec.name
    }

    /// Its machine, while its QEMU runs.
    ///
    /// # Errors
    /// When QEMU does not run.
    pub fn machine(&self) -> Result<Arc<Machine>, NoMachine> {
        let machine = self.cluster.machine(self.name()).filter(|machine| !machine.has_ended());
        machine.ok_or_else(|| NoMachine { node: self.name().clone() })
    }

    /// The state of its machine.
    pub async fn state(&self) -> MachineState {
        let Ok(machine) = self.machine() else { return MachineState::Gone };
        match machine.is_running().await {
            Ok(true) => MachineState::Running,
            Ok(false) => MachineState::Paused,
            Err(_) => MachineState::Gone,
        }
    }

    /// Stops its CPUs; the guest's clock stops too.
    ///
    /// # Errors
    /// When QEMU does not run or does not respond.
    pub async fn pause(&self) -> Result<(), NodeError> {
        Ok(self.machine()?.pause().await?)
    }

    /// Resumes its CPUs.
    ///
    /// # Errors
    /// When QEMU does not run or does not respond.
    pub async fn resume(&self) -> Result<(), NodeError> {
        Ok(self.machine()?.resume().await?)
    }

    /// Kills its QEMU, as in an accident, and returns when the process has ended.
    ///
    /// # Errors
    /// When QEMU does not run.
    pub async fn kill(&self) -> Result<(), NodeError> {
        let machine = self.machine()?;
        machine.kill();
        // The next caller then sees that the machine has ended.
        machine.failure().await;
        Ok(())
    }

    /// Reboots it through its machine API, otherwise by its power switch. Starts QEMU if it has exited.
    ///
    /// # Errors
    /// When QEMU neither executes the command nor starts.
    pub async fn reboot(&self) -> Result<Reboot, NodeError> {
        let Ok(machine) = self.machine() else {
            self.cluster.boot(self.plan).await?;
            return Ok(Reboot::Started);
        };
        if !machine.is_running().await? {
            machine.power_cycle().await?;
            machine.resume().await?;
            return Ok(Reboot::PowerCycledWhilePaused);
        }
        match self.ask_to_reboot().await {
            Ok(()) => Ok(Reboot::Agreed),
            Err(refusal) => {
                machine.power_cycle().await?;
                Ok(Reboot::PowerCycled { refusal })
            }
        }
    }

    async fn ask_to_reboot(&self) -> Result<(), String> {
        let asked = async {
            let client = self.cluster.connect(self.plan).await?;
            client.reboot(BootReason::PowerCycle, AGREE).await
        };
        match tokio::time::timeout(AGREE, asked).await {
            Ok(agreed) => agreed.map_err(|error| error.to_string()),
            Err(_) => Err(format!("nothing within {} s", AGREE.as_secs())),
        }
    }

    /// Sends keys to its serial console.
    ///
    /// # Errors
    /// When QEMU does not run, or the guest does not accept the keys.
    pub async fn type_keys(&self, keys: Vec<u8>) -> Result<(), NodeError> {
        let machine = self.machine()?;
        let typed = tokio::task::spawn_blocking(move || machine.type_keys(&keys)).await;
        let typed = typed.map_err(io::Error::other).flatten();
        typed.map_err(|source| NodeError::Console { node: self.name().clone(), source })
    }

    /// Cuts its link to the lab network.
    ///
    /// # Errors
    /// When the switch has no such link.
    pub fn cut_link(&self) -> Result<(), NodeError> {
        Ok(self.cluster.lan().cut(self.name())?)
    }

    /// Restores its link.
    ///
    /// # Errors
    /// When the switch has no such link.
    pub fn restore_link(&self) -> Result<(), NodeError> {
        Ok(self.cluster.lan().restore(self.name())?)
    }
}
