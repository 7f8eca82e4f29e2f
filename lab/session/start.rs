//! Starts a cluster from its spec: images, registry, memory, plan, LAN.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{FutureExt, future::BoxFuture};
use lab_cluster::{
    formation::{Cluster, Failure, Host, SavedStage, Tailnet, Warm},
    tailnet::{Programs, ProgramsError, TailnetError},
};
use lab_image::InspectError;
use lab_model::{
    Diagnostic, Size,
    files::{create_private, create_private_directory},
    node::NodeName,
};
use lab_oci::{
    images::{Mirror, OciError, PullThrough, Reference},
    registry::{CacheDiskError, Registry, RegistryError, RegistryOptions, Store, StoreError, cache_disk},
};
use lab_plan::{
    cluster::{Budgets, ClusterSpec, Fault, ImageDelivery, MissingImages, Plan, PlanError, TailnetSpecError},
    scenario::Start,
};
use lab_vm::host::{MemoryReservation, WhenShort};

use super::{
    open::{Session, SessionError},
    planning::{ANY_UPSTREAM, Planning},
    preload::PlannedFrom,
};

/// MiB of host memory that QEMU and the lab need per node in addition to guest RAM (translation cache,
/// buffers).
pub const OVERHEAD_PER_NODE_MIB: u64 = 320;

/// A request to start a cluster.
#[derive(Clone, Debug)]
pub struct ClusterRequest {
    pub spec: ClusterSpec,
    /// Faults to inject.
    pub faults: Vec<Fault>,
    /// Time limits on the reference host.
    pub budgets: Budgets,
    /// What to do when the host has too little memory.
    pub when_short: WhenShort,
    /// Simulated host memory, for a test that the lab refuses to start.
    pub pretended_memory: Option<Size>,
    /// Images of the workloads that will run in the cluster.
    pub workloads: Vec<String>,
    /// Whether to use a saved cluster.
    pub start: Start,
    /// Use the saved cluster with this name only.
    pub snapshot: Option<NodeName>,
    /// The formation stage at which to save the cluster.
    pub keep: SavedStage,
    /// The directory name of the cluster in a run of several clusters.
    pub title: String,
}

impl ClusterRequest {
    /// A cluster without faults, with the default limits, that does not wait for memory.
    pub fn new(spec: ClusterSpec) -> Self {
        Self {
            title: spec.name.to_string(),
            spec,
            faults: Vec::new(),
            budgets: Budgets::default(),
            when_short: WhenShort::Refuse,
            pretended_memory: None,
            workloads: Vec::new(),
            start: Start::Cold,
            snapshot: None,
            keep: SavedStage::Formed,
        }
    }
}

/// Why a cluster was not started. All variants but the last are refusals before any node boots.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host is not suitable.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The source of an image is invalid.
    #[error(transparent)]
    Source(#[from] OciError),
    /// An image is not usable.
    #[error(transparent)]
    Asset(#[from] InspectError),
    /// The workload images are not usable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Images that nodes could not pull.
    #[error("{0}")]
    MissingImages(MissingImages),
    /// The registry did not start.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The saved cluster with the requested name is not available.
    #[error(
        "the saved cluster {name} cannot be used: {reason}. `lab snapshot ls` lists the saved clusters; a \
         cluster whose patches contain secrets also needs its scenario file (--scenario)"
    )]
    Snapshot { name: NodeName, reason: String },
    /// The disk with container images could not be created.
    #[error(transparent)]
    ImageDisk(#[from] CacheDiskError),
    /// Machine configs that Talos rejects, or that form no cluster.
    #[error(
        "the machine configs are wrong (a rule is explained by `lab config rules RULE`): {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Config(Vec<Diagnostic>),
    /// The plan is not possible.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The simulated host memory is too small.
    #[error("not enough memory for the topology: {need} are needed and the host has {available} to give")]
    Memory {
        /// Memory that the nodes need.
        need: Size,
        /// Memory that is available.
        available: Size,
    },
    /// The tailnet spec is invalid.
    #[error("the tailnet: {0}")]
    TailnetSpec(#[from] TailnetSpecError),
    /// The programs of the tailnet could not be built.
    #[error(transparent)]
    TailnetPrograms(#[from] ProgramsError),
    /// The control server of the tailnet failed.
    #[error(transparent)]
    Tailnet(#[from] TailnetError),
    /// The LAN did not start.
    #[error(transparent)]
    Formation(#[from] Box<Failure>),
}

/// A started cluster with its memory reservation.
pub struct RunningCluster {
    pub cluster: Arc<Cluster>,
    _memory: MemoryReservation,
}

impl RunningCluster {
    /// Stops all machines and returns when their processes have ended.
    pub fn shut_down(self) -> BoxFuture<'static, ()> {
        self.ended().boxed()
    }

    async fn ended(self) {
        self.cluster.shut_down().await;
    }
}

impl Session {
    pub(super) fn planning(&self) -> Planning<'_> {
        Planning { options: &self.options, accelerator: self.accelerator, recorder: &self.recorder }
    }

    async fn planned(
        &self,
        request: ClusterRequest,
    ) -> Result<(Plan, Registry, Option<Warm>, PlannedFrom), StartError> {
        let planning = self.planning();
        let images = planning.prepare_images(&request.spec).await?;
        let store = Store::open(&planning.layouts())?;
        let pull_through = self.options.pull_through.clone().map(|to| {
            let credentials = self.options.pull_through_credentials.iter().cloned();
            PullThrough::new(Mirror::new(to), credentials)
        });
        let mut registry = Registry::start(RegistryOptions {
            store: store.clone(),
            pull_through: pull_through.clone(),
            recorder: self.recorder.clone(),
        })
        .await?;
        let mut budgets = request.budgets.clone();
        if let Some(image) = images.values().next() {
            budgets.speed_factor = self.speed_factor(image).await?.get();
        }
        let from = PlannedFrom { store, images, pull_through };
        let inputs = planning.inputs(&request, from.images.clone(), &from.store, budgets);
        let mut plan = Plan::new(request.spec.clone(), inputs)?;
        planning.note_releases(&plan);
        let warm = self.warm(&request, &plan, &from.store).await?;
        if let Some(snapshot) = warm.as_ref().and_then(|warm| warm.restore.as_ref()) {
            let access = &snapshot.access;
            plan = plan.with_secrets(access.secrets.clone(), access.talosconfig.clone())?;
        }
        planning.check_configs(&plan).await?;
        self.open_mirror_ports(&plan, &mut registry).await?;
        if let Some(pull_through) = &from.pull_through {
            pull_through.allow(upstreams_of(&plan, &request, &from.store));
        }
        let pulled = planning.images_to_pull(&plan, &request, &from.store)?;
        if plan.spec.image_delivery == ImageDelivery::Disk {
            // Nodes read a shared disk without the registry, which sends these late.
            let images = pulled.into_iter().filter(|image| !plan.is_sent_late(image)).collect();
            plan.image_disk = Some(self.image_disk(from.store.clone(), images).await?);
        }
        Ok((plan, registry, warm, from))
    }

    /// The disk with these images. The first run that needs it creates it.
    async fn image_disk(&self, store: Store, images: BTreeSet<String>) -> Result<PathBuf, StartError> {
        let directory = self.cache("image-disks")?;
        let made = tokio::task::spawn_blocking(move || cache_disk(&store, &images, &directory));
        let made = made.await.map_err(|error| SessionError::Host {
            action: "make the image disk".into(),
            source: std::io::Error::other(error),
        })?;
        Ok(made?)
    }

    /// Makes the registry listen on the ports that machine configs name as their own mirrors. A port that is
    /// already in use may be intentional, so the lab reports it and leaves it alone.
    async fn open_mirror_ports(&self, plan: &Plan, registry: &mut Registry) -> Result<(), StartError> {
        for (port, upstreams) in self.planning().further_ports(plan) {
            let names: Vec<_> = upstreams.iter().map(String::as_str).collect();
            let only = <[&str; 1]>::try_from(names.as_slice()).ok().map(|[name]| name);
            let text = match registry.also_at(port, only.filter(|name| *name != ANY_UPSTREAM)).await {
                Ok(()) => format!("answers at port {port}, too, as the mirror of {}", names.join(", ")),
                Err(RegistryError::FixedPort { source, .. }) if source.kind() == io::ErrorKind::AddrInUse => {
                    format!(
                        "port {port}, which the machine configs name as the mirror of {}, is taken on this host \
                         ({source}): nodes reach what listens there instead; end it if it is not meant, or name \
                         another port",
                        names.join(", ")
                    )
                }
                Err(error) => return Err(error.into()),
            };
            self.planning().note(format!("image registry: {text}"));
        }
        Ok(())
    }

    /// Starts the LAN and the registry of a cluster; [`Cluster::form`] then boots and forms it. Writes the
    /// plan, without its secrets, to the run directory.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(&self, request: ClusterRequest) -> BoxFuture<'_, Result<RunningCluster, StartError>> {
        self.start_cluster(request).boxed()
    }

    async fn start_cluster(&self, request: ClusterRequest) -> Result<RunningCluster, StartError> {
        let need =
            request.spec.total_memory().as_mib() + OVERHEAD_PER_NODE_MIB * request.spec.nodes.len() as u64;
        if let Some(available) = request.pretended_memory.filter(|available| available.as_mib() < need) {
            return Err(StartError::Memory { need: Size::mib(need), available });
        }
        if let Some(tailnet) = &request.spec.tailnet {
            tailnet.resolve(&request.spec)?;
            if self.options.tailnet.is_some() {
                tailnet.without_own_control_server()?;
            }
        }
        let when_short = request.when_short;
        let title = request.title.clone();
        let (plan, registry, warm, from) = self.planned(request).await?;
        let memory =
            MemoryReservation::reserve(self.name(), need, when_short).await.map_err(SessionError::from)?;
        let directory = if self.options.several { self.path().join(title) } else { self.path().to_owned() };
        write(&directory, "plan.json", serde_json::to_string_pretty(&plan).unwrap_or_default())?;
        for node in &plan.nodes {
            if let Some(change) = &node.own_config {
                let name = format!("{}.diff", node.spec.name);
                write(&directory.join("config-changes"), &name, change.diff.clone())?;
            }
        }
        write(&directory, "talosconfig", plan.talosconfig.to_yaml().unwrap_or_default())?;
        let preloaded = match warm.as_ref().and_then(|warm| warm.restore.as_ref()) {
            Some(_) => None,
            None => self.preloaded(&plan, &from, &directory).await,
        };
        let host = self.host(&directory);
        let saved = warm.as_ref().and_then(|warm| warm.restore.as_ref()?.control_server());
        let tailnet = self.start_tailnet(&plan, &directory.join("tailnet"), saved).await?;
        let cluster = Cluster::start(plan, registry, tailnet, host).await.map_err(Box::new)?;
        let cluster = cluster.with_warm(warm).with_preloaded(preloaded);
        Ok(RunningCluster { cluster: Arc::new(cluster), _memory: memory })
    }

    /// The host resources of a cluster with this output directory.
    pub(super) fn host(&self, directory: &Path) -> Host {
        Host {
            qemu: self.qemu.clone(),
            processes: self.processes.clone(),
            directory: directory.to_owned(),
            recorder: self.recorder.clone(),
            ports: self.options.host_ports.clone(),
            cpu_share: self.options.cpu_share,
        }
    }

    /// The tailnet of a plan. The first run that needs its programs builds them, which takes minutes.
    async fn start_tailnet(
        &self,
        plan: &Plan,
        directory: &Path,
        saved: Option<PathBuf>,
    ) -> Result<Option<Tailnet>, StartError> {
        let Some(spec) = plan.spec.tailnet.clone() else {
            return Ok(None);
        };
        let document = spec.resolve(&plan.spec)?;
        let programs = self.options.images.join(Programs::DIRECTORY);
        let sources = self.cache("program-sources")?;
        if Programs::at(&programs).is_err() {
            self.planning()
                .note("compiling the programs of the tailnet, once: this takes minutes".to_owned());
        }
        let built = tokio::task::spawn_blocking(move || Programs::at_or_built_here(&programs, &sources));
        let programs = built.await.map_err(|error| SessionError::Host {
            action: "build the tailnet's programs".into(),
            source: std::io::Error::other(error),
        })??;
        let directory = directory.to_owned();
        let processes = self.processes.clone();
        let gateway = plan.lan.gateway;
        Ok(Some(match self.options.tailnet.clone() {
            Some(real) => Tailnet::of_the_user(real, document, programs, processes, directory, gateway),
            None => {
                let saved = saved.as_deref();
                Tailnet::start(spec, document, programs, processes, directory, gateway, saved).await?
            }
        }))
    }
}

/// The registries that the configs and the scenario of a run name: those of their images, and those with mirrors.
fn upstreams_of(plan: &Plan, request: &ClusterRequest, store: &Store) -> BTreeSet<String> {
    let images = plan.pulled_images().map(|(image, _)| image).chain(request.workloads.iter().cloned());
    let registries = images.filter_map(|image| image.parse::<Reference>().ok());
    let of_images = registries.map(|reference| reference.registry().to_owned());
    let of_mirrors = store.upstreams().into_iter().map(str::to_owned);
    of_images.chain(of_mirrors).chain(plan.mirrored_upstreams()).collect()
}

/// Writes a file of a cluster that only its owner can read.
pub(super) fn write(directory: &Path, name: &str, text: String) -> Result<(), SessionError> {
    use std::io::Write;
    let path = directory.join(name);
    create_private_directory(directory)
        .and_then(|()| create_private(&path))
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| SessionError::Host { action: format!("write {}", path.display()), source })
}
