//! A live cluster: LAN, registry, machines and formation state.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lab_image::without_extension;
use lab_model::{
    events::{EventKind, Outcome, PlannedImage, Recorder, Step, Subject},
    node::{Kind, NodeName},
};
use lab_oci::registry::Registry;
use lab_plan::{
    cluster::{Fault, NodePlan, Plan},
    network::{KUBERNETES_API_PORT, MACHINE_API_PORT, REGISTRY_PORT},
};
use lab_vm::{
    host::{DISK, NODES},
    machine::{DeviceBus, GicVersion, Machine, MachineFailure, MachineSpec, QemuBinary, make_disk},
    network::{HostPort, Lan, NetworkError},
    process::{CpuShare, Processes},
};
use tokio::sync::watch;

use super::{
    failure::{Cause, Failure, NotForwarded},
    formation_state::FormationState,
    preload::Preloaded,
    tailnet::Tailnet,
    warm::{Warm, WarmKey, WarmStore},
};
use crate::machine_api::NodeClient;

/// The clock of a node with the fault [`Fault::WrongClock`] is ahead by this time. New certificates of the
/// lab are valid at that time, so the cluster forms.
const WRONG_BY: Duration = Duration::from_secs(90);

/// The host resources of a cluster.
#[derive(Clone)]
pub struct Host {
    pub qemu: QemuBinary,
    /// Starts child processes that end with the lab.
    pub processes: Processes,
    /// The output directory of the run.
    pub directory: PathBuf,
    pub recorder: Recorder,
    /// Ports of the host's loopback that nodes may reach besides those that the lab serves.
    pub ports: Vec<HostPort>,
    /// The share of time in which each VM runs.
    pub cpu_share: CpuShare,
}

/// A live cluster. It exists before its first machine starts. [`Cluster::form`] returns a
/// [`FormedCluster`](super::FormedCluster). Drop ends all processes of the cluster. [`Cluster::shut_down`]
/// ends them in order.
pub struct Cluster {
    pub(super) plan: Plan,
    pub(super) host: Host,
    pub(super) lan: Lan,
    pub(super) registry: Registry,
    tailnet: Option<Tailnet>,
    machines: Mutex<BTreeMap<NodeName, Arc<Machine>>>,
    /// Options to restore and save warm clusters.
    pub(super) warm: Mutex<Option<Warm>>,
    /// A disk with the images of the cluster, of which the nodes get copies.
    preloaded: Option<Preloaded>,
    /// The store and the key for a saved cluster. `None` when a fault was injected.
    pub(super) saved_as: Option<(WarmStore, WarmKey)>,
    pub(super) formation: watch::Sender<FormationState>,
}

impl Cluster {
    /// Starts the LAN, but no VM. The registry must already run, because the plan contains its port.
    ///
    /// # Errors
    /// When the LAN cannot be started.
    pub async fn start(
        plan: Plan,
        registry: Registry,
        tailnet: Option<Tailnet>,
        host: Host,
    ) -> Result<Self, Failure> {
        host.recorder.record(EventKind::NetworkPlanned {
            lan: plan.lan.network.to_string(),
            gateway: plan.lan.gateway,
            tailnet: tailnet.as_ref().map(|tailnet| match tailnet.control() {
                Some(_) => "control server of the run's own".to_owned(),
                None => "the user's own tailnet".to_owned(),
            }),
        });
        for node in &plan.nodes {
            host.recorder.record(EventKind::NodePlanned {
                node: node.spec.name.clone(),
                kind: node.spec.kind,
                role: node.spec.role.clone(),
                address: node.address,
                image: Some(PlannedImage {
                    source: node.image.origin.source.clone(),
                    extensions: node.image.contents.extensions.iter().map(|one| one.name.clone()).collect(),
                }),
            });
        }
        let lan = Lan::start(
            plan.lan.clone(),
            &host.qemu,
            &host.directory.join("network"),
            &host.processes,
            host.recorder.clone(),
        )
        .await
        .map_err(|error| Failure {
            subject: Subject::Cluster,
            step: Step::Prepare,
            cause: error.into(),
            findings: Vec::new(),
            turned_away: None,
        })?;
        for fault in &plan.faults {
            if let Fault::WrongClock { node } = fault {
                lan.set_time_ahead(node, WRONG_BY);
            }
        }
        lan.redirect(REGISTRY_PORT, registry.address().port());
        if let Some((name, address)) = plan.endpoint_name() {
            lan.add_name(name, address);
        }
        let of_mirrors = plan.mirror_ports().into_keys().filter(|port| *port != REGISTRY_PORT);
        let of_tailnet = tailnet.iter().flat_map(Tailnet::host_ports);
        let served = of_mirrors.map(HostPort::Tcp).chain(of_tailnet).chain(host.ports.iter().copied());
        served.for_each(|port| lan.serve(port));
        if let Some(egress) = tailnet.as_ref().and_then(Tailnet::egress) {
            lan.set_egress(egress);
        }
        Ok(Self {
            plan,
            host,
            lan,
            registry,
            tailnet,
            machines: Mutex::default(),
            warm: Mutex::default(),
            preloaded: None,
            saved_as: None,
            formation: watch::Sender::default(),
        })
    }

    /// Enables the restore from a saved cluster, or the save after formation.
    #[must_use]
    pub fn with_warm(mut self, warm: Option<Warm>) -> Self {
        self.saved_as = warm.as_ref().map(|warm| (warm.store.clone(), warm.key.clone()));
        self.warm = Mutex::new(warm);
        self
    }

    /// Makes nodes start from copies of a disk that contains their images.
    #[must_use]
    pub fn with_preloaded(mut self, preloaded: Option<Preloaded>) -> Self {
        self.preloaded = preloaded;
        self
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn tailnet(&self) -> Option<&Tailnet> {
        self.tailnet.as_ref()
    }

    /// Returns the LAN, for link faults and counters.
    pub fn lan(&self) -> &Lan {
        &self.lan
    }

    /// Returns the number of image bytes that the nodes have pulled.
    pub fn image_bytes(&self) -> u64 {
        self.registry.bytes_served()
    }

    /// Returns the output directory of the run.
    pub fn directory(&self) -> &Path {
        &self.host.directory
    }

    /// Returns the directory for the files of a node: console, disk, command line.
    pub fn node_directory(&self, node: &NodeName) -> PathBuf {
        self.host.directory.join(NODES).join(node.as_str())
    }

    /// Returns the starter of child processes that end with the lab.
    pub fn processes(&self) -> &Processes {
        &self.host.processes
    }

    pub fn recorder(&self) -> &Recorder {
        &self.host.recorder
    }

    /// Returns the current formation state.
    pub fn formation(&self) -> FormationState {
        self.formation.borrow().clone()
    }

    /// Subscribes to changes of the formation state.
    pub fn watch_formation(&self) -> watch::Receiver<FormationState> {
        self.formation.subscribe()
    }

    /// Returns the VM of a node after its start.
    pub fn machine(&self, node: &NodeName) -> Option<Arc<Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }

    /// Returns why machines cannot continue, except for those that the user killed.
    pub fn lost_machines(&self) -> Vec<MachineFailure> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        let left = machines.values().filter(|machine| !machine.was_killed());
        left.filter_map(|machine| machine.failed()).collect()
    }

    /// Returns the process IDs of the cluster: VMs and uplink.
    pub fn pids(&self) -> Vec<u32> {
        let machines = self.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.values().map(|machine| machine.pid()).chain([self.lan.uplink_pid()]).collect()
    }

    /// Returns the host address of a node's machine API.
    ///
    /// # Errors
    /// When the LAN does not forward the port.
    pub fn machine_api(&self, node: &NodeName) -> Result<SocketAddr, NotForwarded> {
        let address = self.lan.forward(node, MACHINE_API_PORT);
        address.ok_or_else(|| NotForwarded::new(node))
    }

    /// Returns the host address of the Kubernetes API server.
    ///
    /// # Errors
    /// When the LAN does not forward the port.
    pub fn kubernetes_api(&self) -> Result<SocketAddr, NotForwarded> {
        let address = self.lan.forward(&self.plan.control_plane().spec.name, KUBERNETES_API_PORT);
        address.ok_or_else(|| NotForwarded::new("the API server"))
    }

    /// Opens a new authenticated connection to a node's machine API.
    ///
    /// # Errors
    /// When the node does not answer or does not trust the client.
    pub async fn connect(&self, node: &NodePlan) -> Result<NodeClient, crate::machine_api::ApiError> {
        let address = IpAddr::from(node.address);
        let via =
            self.machine_api(&node.spec.name).map_err(|_| crate::machine_api::ApiError::Unreachable {
                node: address,
                reason: "its API port is not forwarded".into(),
            })?;
        NodeClient::connect(via, address, &self.plan.credentials).await
    }

    /// Creates the disk of a node if it does not exist, then starts the VM.
    pub(crate) async fn boot(&self, node: &NodePlan) -> Result<Arc<Machine>, Cause> {
        self.boot_with(node, false).await
    }

    /// Like [`Cluster::boot`]. An `incoming` machine waits for its memory instead of booting.
    pub(super) async fn boot_with(&self, node: &NodePlan, incoming: bool) -> Result<Arc<Machine>, Cause> {
        let name = &node.spec.name;
        let directory = self.node_directory(name);
        let file = |action: String| move |source| Cause::File { action, source };
        lab_model::files::create_private_directory(&directory)
            .map_err(file(format!("create {}", directory.display())))?;
        let disk = self.disk_of(node);
        if !disk.exists() {
            self.make_disk_of(node).await?;
        }
        let mut initramfs = node.boots.initramfs.clone();
        if let Some(extension) = &node.without_extension {
            let edited = directory.join("initramfs");
            without_extension(&initramfs, extension, &edited).map_err(|error| Cause::File {
                action: format!("take {extension} from the image of {name}"),
                source: std::io::Error::other(error),
            })?;
            initramfs = edited;
        }
        let lan_socket = self.lan.socket(name);
        let lan_socket = lan_socket.ok_or_else(|| NetworkError::UnknownNode { node: name.clone() })?;
        let spec = MachineSpec {
            name: name.clone(),
            kernel: node.boots.kernel.clone(),
            initramfs,
            cmdline: node.kernel.text.clone(),
            memory_mib: u32::try_from(node.spec.memory.as_mib()).unwrap_or(u32::MAX),
            vcpus: node.spec.vcpus,
            cpu_model: self.plan.cpu_model.clone(),
            bus: DeviceBus::default(),
            gic: GicVersion::default(),
            disk,
            image_disk: self.plan.image_disk.clone(),
            mac: node.mac,
            lan_socket: lan_socket.to_owned(),
            mtu: self.plan.lan.mtu,
            cpu_share: self.host.cpu_share,
            niceness: match node.spec.kind {
                Kind::ControlPlane => 0,
                Kind::Worker => self.plan.start.worker_niceness(),
            },
            paused: false,
            incoming,
            directory,
        };
        let machine = Machine::start(
            &self.host.qemu,
            self.plan.accelerator,
            spec,
            &self.host.processes,
            self.host.recorder.clone(),
        )
        .await?;
        let machine = Arc::new(machine);
        self.machines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), Arc::clone(&machine));
        Ok(machine)
    }

    /// The preloaded disk, if a node starts from a copy of it.
    pub(super) fn preloaded_for(&self, node: &NodePlan) -> Option<&Preloaded> {
        self.preloaded.as_ref().filter(|_| self.plan.can_start_preloaded(node))
    }

    pub(super) fn disk_of(&self, node: &NodePlan) -> PathBuf {
        self.node_directory(&node.spec.name).join(DISK)
    }

    /// Creates the disk of a node that has no config yet: a copy of the preloaded disk, or an empty disk. Replaces an
    /// existing disk.
    pub(super) async fn make_disk_of(&self, node: &NodePlan) -> Result<(), Cause> {
        let (disk, size) = (self.disk_of(node), node.spec.disk.bytes());
        let preloaded = self.preloaded_for(node).cloned();
        let made = tokio::task::spawn_blocking(move || {
            let damaged = match preloaded {
                Some(preloaded) if preloaded.copy_to(&disk)? => return Ok(false),
                Some(_) => true,
                None => false,
            };
            make_disk(&disk, size).map_err(std::io::Error::other)?;
            Ok(damaged)
        });
        let damaged = made.await.map_err(std::io::Error::other).flatten().map_err(|source| Cause::File {
            action: format!("make the disk of {}", node.spec.name),
            source,
        })?;
        if damaged {
            let text = "its preloaded disk was damaged and is removed: the node pulls its images itself";
            self.note(node, text.to_owned());
        }
        Ok(())
    }

    /// Ends all VMs immediately, waits until they have ended, and deletes their disks. Does not shut down
    /// the guests, because the nodes are disposable. The LAN ends with the last handle of the cluster.
    pub async fn shut_down(&self) {
        let (recorder, subject, step) = (&self.host.recorder, Subject::Cluster, Step::Teardown);
        recorder.record(EventKind::StepStarted { subject: subject.clone(), step });
        self.end_machines().await;
        self.remove_disks();
        recorder.record(EventKind::StepFinished { subject, step, outcome: Outcome::Passed });
    }

    /// Deletes the disks. A disk contains the machine config with all secrets and is useless without the
    /// lab. A running machine keeps its open disk until the machine ends.
    fn remove_disks(&self) {
        for node in &self.plan.nodes {
            let _ = std::fs::remove_file(self.disk_of(node));
        }
    }

    /// Ends all VMs. New VMs can replace them.
    pub(super) async fn end_machines(&self) {
        let machines = std::mem::take(&mut *self.machines.lock().unwrap_or_else(PoisonError::into_inner));
        let ends = machines.into_values().filter_map(Arc::into_inner).map(Machine::quit);
        futures::future::join_all(ends).await;
    }
}

impl Drop for Cluster {
    /// Deletes the disks of a cluster that was not shut down.
    fn drop(&mut self) {
        self.remove_disks();
    }
}
