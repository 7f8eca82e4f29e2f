//! From a cluster spec to a live cluster: images, registry, memory, plan, LAN.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    open::{Session, SessionError},
    warm::Start,
};
use crate::{
    assets::{BootCache, InspectError, Inspection, NodeImage},
    cluster::{
        Budgets, Cluster, ClusterSpec, Failure, Fault, Host, ImageDelivery, ImageSource, MissingImages, Plan,
        PlanError, PlanInputs, PreparedImage, REGISTRY_PORT, Size, Stage, Tailnet, TailnetSpecError, Warm,
    },
    diagnostic::{Diagnostic, Severity},
    events::{Happening, Subject},
    host::{MemoryReservation, WhenShort},
    node::{NodeName, Role},
    oci::{Mirror, OciError, PullThrough, Resolved, Source},
    recipe::KUBERNETES_VERSION,
    registry::{CacheDiskError, Registry, RegistryError, RegistryOptions, Store, StoreError, cache_disk},
    tailnet::{Programs, ProgramsError, TailnetError},
};
use futures::{FutureExt, future::BoxFuture};

/// MiB that QEMU itself and the lab need beside a guest's RAM (translation cache, buffers).
pub const OVERHEAD_PER_NODE_MIB: u64 = 320;

/// How machine configs name all upstreams that have no mirror of their own (Talos,
/// `machine.registries.mirrors`).
const ANY_UPSTREAM: &str = "*";

/// What cluster to start, and how.
#[derive(Clone, Debug)]
pub struct ClusterRequest {
    /// The cluster.
    pub spec: ClusterSpec,
    /// Faults to put in.
    pub faults: Vec<Fault>,
    /// Time limits on the reference host.
    pub budgets: Budgets,
    /// What to do when memory is short.
    pub when_short: WhenShort,
    /// Memory that the host shall seem to have, for a check that the lab refuses.
    pub pretended_memory: Option<Size>,
    /// Images of workloads that will be started in it.
    pub workloads: Vec<String>,
    /// Whether a saved cluster will do.
    pub start: Start,
    /// The saved cluster of this name, and no other.
    pub snapshot: Option<NodeName>,
    /// How far the cluster that is saved has come.
    pub keep: Stage,
    /// What its directory is called in a run of several clusters.
    pub title: String,
}

impl ClusterRequest {
    /// A cluster without faults, within the usual limits, that waits for nobody.
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
            keep: Stage::Formed,
        }
    }
}

/// Why a cluster was not started. All but the last are refusals before anything boots.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Where an image should come from.
    #[error(transparent)]
    Source(#[from] OciError),
    /// An image.
    #[error(transparent)]
    Asset(#[from] InspectError),
    /// The workload images.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Images that nodes could not pull.
    #[error("{0}")]
    MissingImages(MissingImages),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A saved cluster that was asked for by its name.
    #[error(
        "the saved cluster {name} cannot be had: {reason}. lab snapshot ls lists what there is; a cluster whose \
         patches hold secrets needs its scenario file again (--scenario)"
    )]
    Snapshot {
        /// Its name.
        name: NodeName,
        /// Why.
        reason: String,
    },
    /// The disk with container images.
    #[error(transparent)]
    ImageDisk(#[from] CacheDiskError),
    /// Machine configs that Talos refuses, or that form no cluster.
    #[error(
        "the machine configs are wrong (a rule is explained by `lab config rules RULE`): {}",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Config(Vec<Diagnostic>),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Memory that was only pretended to be short.
    #[error("not enough memory for the topology: {need} are needed and the host has {available} to give")]
    Memory {
        /// What the nodes need.
        need: Size,
        /// What there is.
        available: Size,
    },
    /// The tailnet that is asked for makes no sense.
    #[error("the tailnet: {0}")]
    TailnetSpec(#[from] TailnetSpecError),
    /// The tailnet's programs.
    #[error(transparent)]
    TailnetPrograms(#[from] ProgramsError),
    /// The tailnet's control server.
    #[error(transparent)]
    Tailnet(#[from] TailnetError),
    /// The LAN could not be started.
    #[error(transparent)]
    Formation(#[from] Box<Failure>),
}

/// A cluster that was started, with the memory that is reserved for it.
pub struct RunningCluster {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    _memory: MemoryReservation,
}

impl RunningCluster {
    /// Ends all machines and returns when they are gone.
    pub fn shut_down(self) -> BoxFuture<'static, ()> {
        self.ended().boxed()
    }

    async fn ended(self) {
        // Anybody else who still holds the cluster ends it by dropping it.
        if let Some(cluster) = Arc::into_inner(self.cluster) {
            cluster.shut_down().await;
        }
    }
}

impl Session {
    /// The plan for a request, without starting any VM, and the registry it counts on.
    ///
    /// # Errors
    /// When an image is missing or damaged, or the spec is impossible.
    pub fn plan(&self, request: ClusterRequest) -> BoxFuture<'_, Result<(Plan, Registry), StartError>> {
        async move {
            let cold = ClusterRequest { start: Start::Cold, ..request };
            let (plan, registry, _warm) = self.planned(cold).await?;
            Ok((plan, registry))
        }
        .boxed()
    }

    async fn planned(&self, request: ClusterRequest) -> Result<(Plan, Registry, Option<Warm>), StartError> {
        let images = self.prepare_images(&request.spec).await?;
        let store = Store::open(&self.layouts())?;
        let there: BTreeSet<String> = store.references().map(str::to_owned).collect();
        let mut upstreams: Vec<_> = store.upstreams().into_iter().map(str::to_owned).collect();
        // Whatever a node asks for may then be there.
        upstreams.extend(self.options.pull_through.is_some().then(|| ANY_UPSTREAM.to_owned()));
        let pull_through = self.options.pull_through.clone().map(|to| PullThrough::new(Mirror::new(to)));
        let mut registry = Registry::start(RegistryOptions {
            store: store.clone(),
            pull_through,
            recorder: self.recorder.clone(),
        })
        .await?;
        let mut budgets = request.budgets.clone();
        if let Some(image) = images.values().next() {
            budgets.speed_factor = self.speed_factor(image).await?.get();
        }
        let mut inputs = PlanInputs {
            images,
            accelerator: self.accelerator,
            cpu_model: self.options.cpu_model.clone(),
            budgets,
            upstreams,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kubernetes_version: KUBERNETES_VERSION.trim_start_matches('v').to_owned(),
            faults: request.faults.clone(),
            saved: None,
            now: jiff::Timestamp::now(),
        };
        let mut plan = Plan::new(request.spec.clone(), inputs.clone())?;
        let warm = self.warm(&request, &plan, &store).await?;
        if let Some(snapshot) = warm.as_ref().and_then(|warm| warm.restore.as_ref()) {
            let access = &snapshot.access;
            inputs.saved = Some((access.secrets.clone(), access.talosconfig.clone()));
            plan = Plan::new(request.spec.clone(), inputs)?;
        }
        self.check_configs(&plan)?;
        self.open_mirror_ports(&plan, &mut registry).await?;
        let workloads = request.workloads.iter().cloned().map(|image| (image, "the checks".to_owned()));
        let needed: Vec<_> = plan.pulled_images().chain(workloads).collect();
        if let Some(missing) = MissingImages::among(needed.clone(), |image| there.contains(image)) {
            self.refuse_or_fetch(missing)?;
        }
        if plan.spec.image_delivery == ImageDelivery::Disk {
            let images = needed.into_iter().map(|(image, _)| image).filter(|image| there.contains(image));
            plan.image_disk = Some(self.image_disk(store, images.collect()).await?);
        }
        Ok((plan, registry, warm))
    }

    /// The disk with these images, made by the first run that needs it.
    async fn image_disk(&self, store: Store, images: BTreeSet<String>) -> Result<PathBuf, StartError> {
        let directory = self.cache("image-disks")?;
        let made = tokio::task::spawn_blocking(move || cache_disk(&store, &images, &directory));
        let made = made.await.map_err(|error| SessionError::Host {
            action: "make the image disk".into(),
            source: std::io::Error::other(error),
        })?;
        Ok(made?)
    }

    /// Has the registry answer at the ports that machine configs name as mirrors of their own. What
    /// listens at such a port already may be meant, so it is told and left.
    async fn open_mirror_ports(&self, plan: &Plan, registry: &mut Registry) -> Result<(), StartError> {
        let mut ports = plan.mirror_ports();
        ports.remove(&REGISTRY_PORT);
        for (port, upstreams) in ports {
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
            let text = format!("image registry: {text}");
            self.recorder.record(Happening::Note { subject: Subject::Cluster, text });
        }
        Ok(())
    }

    /// The layouts that nodes pull from. The one that is filled by pulling need not be there yet.
    fn layouts(&self) -> Vec<PathBuf> {
        let filled = self.options.pull_through.as_ref();
        let given = self.options.mirrors.iter().filter(|mirror| Some(*mirror) != filled).cloned();
        let filled = filled.filter(|mirror| mirror.join("index.json").is_file()).cloned();
        std::iter::once(self.options.images.join("workloads")).chain(given).chain(filled).collect()
    }

    /// Refuses missing images, unless they will be fetched; then says which.
    fn refuse_or_fetch(&self, missing: MissingImages) -> Result<(), StartError> {
        if self.options.pull_through.is_none() {
            return Err(StartError::MissingImages(missing));
        }
        let (fetched, lost) = missing.by_whether_they_can_be_fetched();
        if let Some(lost) = lost {
            return Err(StartError::MissingImages(lost));
        }
        if let Some(fetched) = fetched {
            let text = format!("fetched once a node asks for them (--pull-through): {}", fetched.each());
            self.recorder.record(Happening::Note { subject: Subject::Cluster, text });
        }
        Ok(())
    }

    /// Refuses configs with errors, and notes what may be meant.
    fn check_configs(&self, plan: &Plan) -> Result<(), StartError> {
        let (errors, warnings): (Vec<_>, Vec<_>) =
            plan.config_findings().into_iter().partition(|finding| finding.severity == Severity::Error);
        for warning in warnings {
            self.recorder.record(Happening::Note { subject: Subject::Cluster, text: warning.to_string() });
        }
        if errors.is_empty() { Ok(()) } else { Err(StartError::Config(errors)) }
    }

    /// Starts a cluster's LAN and registry; [`Cluster::form`] then boots and forms it. The plan is
    /// left in the run's directory, without its secrets.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(&self, request: ClusterRequest) -> BoxFuture<'_, Result<RunningCluster, StartError>> {
        self.started(request).boxed()
    }

    async fn started(&self, request: ClusterRequest) -> Result<RunningCluster, StartError> {
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
        let (plan, registry, warm) = self.planned(request).await?;
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
        let host = Host {
            qemu: self.qemu.clone(),
            processes: self.processes.clone(),
            directory: directory.clone(),
            recorder: self.recorder.clone(),
        };
        let saved = warm.as_ref().and_then(|warm| warm.restore.as_ref()?.control_server());
        let tailnet = self.start_tailnet(&plan, &directory.join("tailnet"), saved).await?;
        let cluster = Cluster::start(plan, registry, tailnet, host).await.map_err(Box::new)?.with_warm(warm);
        Ok(RunningCluster { cluster: Arc::new(cluster), _memory: memory })
    }

    /// The tailnet of a plan. Its programs are built by the first run that needs them, which takes
    /// minutes.
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
        let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("images");
        let built = tokio::task::spawn_blocking(move || Programs::at_or_built(&programs, &sources));
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

    async fn prepare_images(&self, spec: &ClusterSpec) -> Result<BTreeMap<Role, PreparedImage>, StartError> {
        let store = self.options.image_store()?;
        let mut resolved = Vec::new();
        for (role, source) in &spec.images {
            resolved.push((role.clone(), store.resolve(&self.source_of(role, source)).await?));
        }
        let (cache, disks) = (BootCache::new(self.options.root.join("cache/boot")), store.disks());
        // Hashing and unpacking would hold up the event loop.
        let prepare = move |Resolved { path, origin }: Resolved| {
            let image = NodeImage::open(&path, &disks)?;
            let boot = cache.prepare(&image)?;
            let contents =
                cache.contents(&image, || Inspection::of(&path, &disks).map(|seen| seen.contents))?;
            Ok::<_, InspectError>(PreparedImage { origin, digest: image.digest, boot, contents })
        };
        // A core for each role.
        let prepared = tokio::task::spawn_blocking(move || {
            std::thread::scope(|scope| {
                let prepare = &prepare;
                let begun =
                    resolved.into_iter().map(|(role, image)| (role, scope.spawn(move || prepare(image))));
                let begun: Vec<_> = begun.collect();
                let done = begun.into_iter().map(|(role, image)| {
                    let image = image.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    Ok((role, image?))
                });
                done.collect::<Result<BTreeMap<_, _>, InspectError>>()
            })
        });
        let prepared = prepared.await.map_err(|error| SessionError::Host {
            action: "prepare the images".into(),
            source: std::io::Error::other(error),
        })?;
        Ok(prepared?)
    }

    fn source_of(&self, role: &Role, source: &ImageSource) -> Source {
        let built = |name: &str| Source::Path(self.options.images.join(name));
        match source {
            ImageSource::Reference => {
                self.options.given.get(role).cloned().unwrap_or_else(|| built(role.as_str()))
            }
            ImageSource::ReferenceVariant(name) => built(name),
            ImageSource::Given(source) => source.clone(),
        }
    }

    /// Leaves the kubeconfig of a formed cluster in its directory and returns its path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_kubeconfig(&self, cluster: &Cluster) -> Result<PathBuf, SessionError> {
        write(cluster.directory(), "kubeconfig", cluster.kubeconfig().unwrap_or_default().to_owned())?;
        Ok(cluster.directory().join("kubeconfig"))
    }
}

/// Writes a file of a cluster that only its owner may read.
fn write(directory: &Path, name: &str, text: String) -> Result<(), SessionError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let path = directory.join(name);
    let open = || {
        std::fs::create_dir_all(directory)?;
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)
    };
    open()
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| SessionError::Host { action: format!("write {}", path.display()), source })
}
