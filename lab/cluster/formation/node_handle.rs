//! What can be done to one node of a cluster at any time, by the control channel and by experiments.

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

/// How long a node may take to agree to a reboot before its power is cut.
const AGREE: Duration = Duration::from_secs(10);

/// A node of a live cluster, whether or not the cluster has formed.
#[derive(Clone, Copy)]
pub struct NodeHandle<'a> {
    cluster: &'a Cluster,
    plan: &'a NodePlan,
}

/// Whether a node's machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// Its CPUs run.
    Running,
    /// Its CPUs are stopped.
    Paused,
    /// There is no QEMU: it was not started yet, or it ended.
    Gone,
}

/// How a node came to boot again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reboot {
    /// Its QEMU was gone, and is started with the disk that the node had.
    Started,
    /// Its machine API agreed.
    Agreed,
    /// Its power was cut, for its machine API did not agree.
    PowerCycled {
        /// What the machine API said.
        refusal: String,
    },
    /// Its power was cut, for it was paused.
    PowerCycledWhilePaused,
}

/// Why something was not done to a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no such node.
    #[error("there is no node {node}; the nodes are {nodes}")]
    Unknown {
        /// The name that was asked for.
        node: String,
        /// The names that there are.
        nodes: String,
    },
    /// Its QEMU does not run.
    #[error(transparent)]
    NoMachine(#[from] NoMachine),
    /// Its QEMU did not do it.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Its QEMU could not be started.
    #[error(transparent)]
    Boot(#[from] Cause),
    /// Its serial console took nothing.
    #[error("{node}: its serial console takes nothing: {source}")]
    Console {
        /// Its name.
        node: NodeName,
        /// What the system said.
        source: io::Error,
    },
    /// Its link.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Cluster {
    /// The node of that name.
    ///
    /// # Errors
    /// When there is none; the error names those that there are.
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

    /// A node of its plan.
    pub fn node_of<'a>(&'a self, plan: &'a NodePlan) -> NodeHandle<'a> {
        NodeHandle { cluster: self, plan }
    }
}

impl<'a> NodeHandle<'a> {
    /// What it was started from.
    pub fn plan(&self) -> &'a NodePlan {
        self.plan
    }

    /// Its name.
    pub fn name(&self) -> &'a NodeName {
        &self.plan.spec.name
    }

    /// Its machine, while its QEMU lives.
    ///
    /// # Errors
    /// When there is no QEMU.
    pub fn machine(&self) -> Result<Arc<Machine>, NoMachine> {
        let machine = self.cluster.machine(self.name()).filter(|machine| !machine.has_ended());
        machine.ok_or_else(|| NoMachine { node: self.name().clone() })
    }

    /// Whether its machine runs.
    pub async fn state(&self) -> MachineState {
        let Ok(machine) = self.machine() else { return MachineState::Gone };
        match machine.is_running().await {
            Ok(true) => MachineState::Running,
            Ok(false) => MachineState::Paused,
            Err(_) => MachineState::Gone,
        }
    }

    /// Stops its CPUs; its time stands still.
    ///
    /// # Errors
    /// When there is no QEMU, or it does not answer.
    pub async fn pause(&self) -> Result<(), NodeError> {
        Ok(self.machine()?.pause().await?)
    }

    /// Lets its CPUs run.
    ///
    /// # Errors
    /// When there is no QEMU, or it does not answer.
    pub async fn resume(&self) -> Result<(), NodeError> {
        Ok(self.machine()?.resume().await?)
    }

    /// Kills its QEMU, as an accident would, and returns when it is gone.
    ///
    /// # Errors
    /// When there is no QEMU.
    pub async fn kill(&self) -> Result<(), NodeError> {
        let machine = self.machine()?;
        machine.kill();
        // So that whoever asks next finds it gone.
        machine.failure().await;
        Ok(())
    }

    /// Boots it again: by its machine API, else by its power switch; a node whose QEMU is gone is started.
    ///
    /// # Errors
    /// When its QEMU neither obeys nor starts.
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

    /// Types at its serial console.
    ///
    /// # Errors
    /// When there is no QEMU, or the guest does not take what is typed.
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

    /// Makes its link whole again.
    ///
    /// # Errors
    /// When the switch has no such link.
    pub fn restore_link(&self) -> Result<(), NodeError> {
        Ok(self.cluster.lan().restore(self.name())?)
    }
}
