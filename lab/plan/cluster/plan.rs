//! The plan: a spec with every value resolved that does not require a VM.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    time::Duration,
};

use lab_image::BootFiles;
use lab_model::{
    accelerator::{Accelerator, CpuModel},
    network::{Attachment, LanPlan, MacAddr},
    node::{Kind, NodeName, Role},
    reference::name_of,
};
use serde::Serialize;

use super::{
    budget::Budgets,
    fault::Fault,
    image_delivery::ImageDelivery,
    kernel_arguments::{COMMAND_LINE_SIZE, KernelArguments},
    network_plugin::NetworkPlugin,
    node_config::{OwnConfigChange, client_file, node_config, secrets},
    order::{Capacity, StartDecision},
    plan_error::PlanError,
    prepared_image::PreparedImage,
    release::{kubernetes_version, releases},
    spec::{ClusterSpec, NodeSpec, Patch},
};
use crate::{
    config::{
        ClusterConfig, Credentials, LabPatchId, LabPatchLine, LabPatches, MachineConfig, RegistryMirror,
        SecretsBundle, SecretsError, TalosContract, TalosRelease, Talosconfig,
    },
    network::{KUBERNETES_API_PORT, MACHINE_API_PORT, REGISTRY_PORT},
};

/// The time that `startAllServices` waits for all services (Talos, v1alpha1_sequencer_tasks.go).
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(70 * 60);

/// Planning inputs from the host and the run.
#[derive(Clone, Debug)]
pub struct PlanInputs {
    /// The image of each role.
    pub images: BTreeMap<Role, PreparedImage>,
    /// The QEMU accelerator.
    pub accelerator: Accelerator,
    /// The guest CPU model. `None` means the best model of the accelerator.
    pub cpu_model: Option<CpuModel>,
    /// Time limits on this host.
    pub budgets: Budgets,
    /// Number of host cores available to guests.
    pub cores: usize,
    /// The upstream registries that the lab registry mirrors.
    pub upstreams: Vec<String>,
    /// Kubernetes version of the reference node, without `v`.
    pub reference_kubernetes: String,
    /// Faults to inject.
    pub faults: Vec<Fault>,
    /// The current time.
    pub now: jiff::Timestamp,
}

/// A resolved cluster. Serialization omits the secrets.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The specification of the cluster.
    pub spec: ClusterSpec,
    /// The QEMU accelerator.
    pub accelerator: Accelerator,
    /// The guest CPU model.
    pub cpu_model: CpuModel,
    /// Time limits.
    pub budgets: Budgets,
    /// The start order of the machines.
    pub start: StartDecision,
    /// The lab patches for machine configs, with reasons.
    pub lab_patches: Vec<LabPatchLine>,
    pub lan: LanPlan,
    /// Kubernetes version of generated machine configs, without `v`.
    pub kubernetes_version: String,
    /// The nodes, in the order of the spec.
    pub nodes: Vec<NodePlan>,
    /// Index of the control plane in `nodes`.
    #[serde(skip)]
    control_plane: usize,
    /// The delivery method for container images; never [`ImageDelivery::Auto`].
    pub delivery: ImageDelivery,
    /// A read-only disk with container images, shared by all nodes.
    pub image_disk: Option<PathBuf>,
    /// Faults to inject.
    pub faults: Vec<Fault>,
    /// The secrets of the cluster.
    #[serde(skip)]
    pub secrets: SecretsBundle,
    /// The administrator's client file for the machine API.
    #[serde(skip)]
    pub talosconfig: Talosconfig,
    /// The administrator's credentials from the client file.
    #[serde(skip)]
    pub credentials: Credentials,
}

/// A resolved node.
#[derive(Clone, Debug, Serialize)]
pub struct NodePlan {
    /// The specification of the node.
    pub spec: NodeSpec,
    /// The node address on the LAN.
    pub address: Ipv4Addr,
    /// The MAC address of the network card.
    pub mac: MacAddr,
    /// The expected image, according to the role.
    pub image: PreparedImage,
    /// The actual boot files. They differ from `image` only if a fault changes them.
    pub boots: BootFiles,
    /// An extension that a fault removes from the boot files.
    pub without_extension: Option<String>,
    /// The Talos release in the image. `None` for the reference node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<TalosRelease>,
    /// The document format of the node's machine config.
    pub contract: TalosContract,
    pub kernel: KernelArguments,
    #[serde(skip)]
    pub config: MachineConfig,
    /// The lab's changes to the config, if the user supplied it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_config: Option<OwnConfigChange>,
}

impl Plan {
    /// Resolves addresses, secrets, configs and kernel arguments of `spec`. Does not start anything.
    ///
    /// # Errors
    /// Returns an error if the spec is impossible or a patch is invalid.
    pub fn new(spec: ClusterSpec, inputs: PlanInputs) -> Result<Self, PlanError> {
        spec.validate().map_err(PlanError::Spec)?;
        if let Some(fault) =
            inputs.faults.iter().find(|fault| spec.nodes.iter().all(|node| node.name != *fault.node()))
        {
            return Err(PlanError::Fault(fault.node().clone()));
        }
        check_roles(&spec, &inputs.images)?;
        let secrets = secrets(&spec, inputs.now)?;
        let places = spec
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| match spec.address(index) {
                Some(address) => Ok((node, address)),
                None => Err(PlanError::LanFull { lan: spec.network.lan, node: node.name.clone() }),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut endpoints =
            places.iter().enumerate().filter(|(_, (node, _))| node.kind == Kind::ControlPlane);
        let (Some((control_plane, (_, endpoint))), None) = (endpoints.next(), endpoints.next()) else {
            return Err(PlanError::ControlPlanes { count: spec.nodes_of(Kind::ControlPlane).count() });
        };
        let releases = releases(&spec, &inputs.images)?;
        let lab_patches = lab_patches_for(&spec, inputs.accelerator, releases[control_plane].as_ref());
        let cluster = ClusterConfig {
            kubernetes_version: kubernetes_version(&spec, &releases, &inputs.reference_kubernetes)?,
            ..cluster_config(&spec, &inputs, *endpoint)
        };
        let nodes = places
            .iter()
            .zip(releases)
            .map(|((node, address), release)| {
                node_plan(&spec, &inputs, &cluster, &secrets, (node, *address, release))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let lan = LanPlan {
            network: spec.network.lan,
            gateway: cluster.gateway,
            domain: "lab.internal".into(),
            mtu: LAN_MTU,
            inner: vec![spec.network.pods, spec.network.services],
            attachments: nodes.iter().map(attachment).collect(),
        };
        let addresses: Vec<_> = places.iter().map(|(_, address)| (*address).into()).collect();
        let talosconfig = client_file(&spec, &addresses, &secrets, inputs.now)?;
        let credentials = Credentials::of(&talosconfig).ok_or(SecretsError::Encoding)?;
        let software: Vec<_> = nodes.iter().map(NodePlan::software).collect();
        let capacity = Capacity {
            cores: inputs.cores,
            speed_factor: inputs.budgets.speed_factor,
            accelerator: inputs.accelerator,
        };
        let start = StartDecision::of(spec.start_order, &software, capacity);
        let delivery = spec.image_delivery.resolved(&software[control_plane], inputs.accelerator);
        Ok(Self {
            start,
            lab_patches: lab_patches.on().map(LabPatchId::line).collect(),
            accelerator: inputs.accelerator,
            cpu_model: inputs.cpu_model.unwrap_or_else(|| CpuModel::default_for(inputs.accelerator)),
            budgets: inputs.budgets,
            faults: inputs.faults,
            spec,
            lan,
            kubernetes_version: cluster.kubernetes_version,
            nodes,
            control_plane,
            delivery,
            image_disk: None,
            secrets,
            talosconfig,
            credentials,
        })
    }

    /// Replaces the secrets and the client file with those of a saved cluster.
    ///
    /// # Errors
    /// Returns an error if the client file contains no credentials.
    pub fn with_secrets(
        mut self,
        secrets: SecretsBundle,
        talosconfig: Talosconfig,
    ) -> Result<Self, PlanError> {
        for node in &mut self.nodes {
            node.config = self.secrets.replaced_by(&secrets, node.config.clone());
        }
        self.credentials = Credentials::of(&talosconfig).ok_or(SecretsError::Encoding)?;
        Ok(Self { secrets, talosconfig, ..self })
    }

    /// Returns the node with the given name.
    pub fn node(&self, name: &NodeName) -> Option<&NodePlan> {
        self.nodes.iter().find(|node| node.spec.name == *name)
    }

    /// Returns the role's documents that the node receives after the cluster is up.
    pub fn late_documents(&self, node: &NodePlan) -> &[Patch] {
        self.spec.late_documents.get(&node.spec.role).map_or(&[], Vec::as_slice)
    }

    /// Returns the maximum time that a boot sequence waits for its services before the node reboots.
    pub fn boot_timeout(&self) -> Duration {
        boot_timeout(&self.spec, &self.budgets).unwrap_or(BOOT_TIMEOUT)
    }

    /// Returns the host name of the control plane in the configs, with its address. Returns `None` if the
    /// endpoint is an address.
    pub fn endpoint_name(&self) -> Option<(&str, Ipv4Addr)> {
        let name = self.spec.own.as_ref()?.endpoint_name.as_deref()?;
        Some((name, self.control_plane().address))
    }

    /// Returns the control plane. Every plan has exactly one.
    pub fn control_plane(&self) -> &NodePlan {
        &self.nodes[self.control_plane]
    }

    /// Returns the repositories (`registry.k8s.io/kube-scheduler`) of a component's image. None unless the registry
    /// sends it late ([`LabPatchId::LateComponents`]).
    pub fn late_images(&self, component: LateComponent) -> BTreeSet<String> {
        let program = match component {
            LateComponent::ControllerManager => "/kube-controller-manager",
            LateComponent::Scheduler => "/kube-scheduler",
        };
        if !self.lab_patches.iter().any(|line| line.id == LabPatchId::LateComponents) {
            return BTreeSet::new();
        }
        let images = self.pulled_images();
        let repositories = images.map(|(image, _)| name_of(&image).to_owned());
        repositories.filter(|name| name.ends_with(program)).collect()
    }

    /// Returns whether the registry sends an image late.
    pub fn is_sent_late(&self, image: &str) -> bool {
        [LateComponent::ControllerManager, LateComponent::Scheduler]
            .into_iter()
            .any(|component| self.late_images(component).contains(name_of(image)))
    }

    /// Returns all nodes except the control plane.
    pub fn workers(&self) -> impl Iterator<Item = &NodePlan> {
        self.nodes.iter().filter(|node| node.spec.kind != Kind::ControlPlane)
    }
}

/// A component of the control plane whose image the registry may send late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateComponent {
    /// It can work once the API server is ready.
    ControllerManager,
    /// It can work once a node has registered.
    Scheduler,
}

/// The Ethernet MTU. slirp does not pass larger packets to the host.
const LAN_MTU: u16 = 1500;

fn cluster_config(spec: &ClusterSpec, inputs: &PlanInputs, endpoint: Ipv4Addr) -> ClusterConfig {
    let gateway = spec.gateway();
    let mirror = format!("http://{gateway}:{REGISTRY_PORT}");
    ClusterConfig {
        name: spec.name.to_string(),
        endpoint_address: endpoint,
        contract: spec.talos_contract.unwrap_or_default(),
        kubernetes_version: inputs.reference_kubernetes.clone(),
        lan: spec.network.lan,
        gateway,
        pods: spec.network.pods,
        services: spec.network.services,
        dns_domain: spec.network.dns_domain.clone(),
        mirrors: inputs
            .upstreams
            .iter()
            .map(|upstream| RegistryMirror { upstream: upstream.clone(), endpoint: mirror.clone() })
            .collect(),
        image_cache: spec.image_delivery == ImageDelivery::Disk,
        own_network_plugin: spec.network_plugin != NetworkPlugin::OfTheConfig,
        schedule_on_control_planes: spec.allow_scheduling_on_control_planes,
        lab_patches: spec.lab_patches.clone(),
    }
}

fn node_plan(
    spec: &ClusterSpec,
    inputs: &PlanInputs,
    cluster: &ClusterConfig,
    secrets: &SecretsBundle,
    (node, address, release): (&NodeSpec, Ipv4Addr, Option<TalosRelease>),
) -> Result<NodePlan, PlanError> {
    let contract = release.as_ref().and_then(TalosRelease::contract).unwrap_or(cluster.contract);
    let lab_patches = lab_patches_for(spec, inputs.accelerator, release.as_ref());
    let cluster = &ClusterConfig { contract, lab_patches, ..cluster.clone() };
    let has_patch = |id| cluster.lab_patches.has(id);
    let has = |wanted: fn(&Fault) -> bool| {
        inputs.faults.iter().any(|fault| *fault.node() == node.name && wanted(fault))
    };
    let mut foreign = secrets.clone();
    let is_foreign = has(|fault| matches!(fault, Fault::ForeignToken { .. }));
    let secrets = if is_foreign {
        foreign.secrets.bootstraptoken = SecretsBundle::fresh_token();
        &foreign
    } else {
        secrets
    };
    let image = inputs.images.get(&node.role).ok_or_else(|| PlanError::Image(node.role.clone()))?;
    let (config, own_config) =
        node_config(spec, cluster, secrets, node, (&image.contents, address), is_foreign)?;
    let mut kernel = KernelArguments::of(image, contract, release.as_ref(), inputs.accelerator);
    if has_patch(LabPatchId::GoRuntime) {
        kernel.tune_go();
    }
    if let Some(limit) = boot_timeout(spec, &inputs.budgets) {
        kernel.push(&format!("lab.boot-timeout={}", limit.as_secs()));
    }
    let impossible = |problem: String| PlanError::ImpossibleFault { node: node.name.clone(), problem };
    let (mut boots, mut without_extension) = (image.boot.clone(), None);
    for fault in inputs.faults.iter().filter(|fault| *fault.node() == node.name) {
        match fault {
            Fault::OtherImage { role, .. } => {
                let other = inputs.images.get(role);
                boots = other.ok_or_else(|| impossible(format!("no node has the role {role}")))?.boot.clone();
            }
            Fault::MissingExtension { extension, .. } => {
                if !image.contents.extensions.iter().any(|own| own.name == *extension) {
                    return Err(impossible(format!("its image has no extension {extension}")));
                }
                without_extension = Some(extension.clone());
            }
            _ => {}
        }
    }
    if has(|fault| matches!(fault, Fault::OtherArchitecture { .. })) {
        kernel.push("lab.architecture=amd64");
    }
    if has(|fault| matches!(fault, Fault::KernelPanic { .. })) {
        kernel.push("rdinit=/no-such-init");
    }
    let bytes = kernel.text.len();
    if bytes >= COMMAND_LINE_SIZE {
        return Err(PlanError::LongArguments { node: node.name.clone(), bytes });
    }
    Ok(NodePlan {
        spec: node.clone(),
        address,
        mac: mac_of(address),
        image: image.clone(),
        boots,
        without_extension,
        release,
        contract,
        kernel,
        config,
        own_config,
    })
}

/// Returns the lab patches for a node of that release.
fn lab_patches_for(
    spec: &ClusterSpec,
    accelerator: Accelerator,
    release: Option<&TalosRelease>,
) -> LabPatches {
    match release {
        Some(_) if accelerator == Accelerator::Tcg => spec.lab_patches.of_emulated_talos(),
        _ => spec.lab_patches.clone(),
    }
}

/// Checks that each role's image has the required extensions and no forbidden extensions.
fn check_roles(spec: &ClusterSpec, images: &BTreeMap<Role, PreparedImage>) -> Result<(), PlanError> {
    for node in &spec.nodes {
        let (Some(image), Some(rule)) = (images.get(&node.role), spec.role_rules.get(&node.role)) else {
            continue;
        };
        let has = |name: &String| image.contents.extensions.iter().any(|extension| extension.name == *name);
        let lacking = rule.requires.iter().find(|name| !has(name)).map(|name| format!("lacks {name}"));
        let extra = rule.forbids.iter().find(|name| has(name)).map(|name| format!("carries {name}"));
        if let Some(problem) = lacking.or(extra) {
            return Err(PlanError::WrongImage {
                role: node.role.clone(),
                digest: image.digest.clone(),
                problem,
                node: node.name.clone(),
            });
        }
    }
    Ok(())
}

/// Returns the spec's boot timeout on this host, in whole seconds. A boot takes longer on a slow host, and
/// must not reach the timeout because of that.
fn boot_timeout(spec: &ClusterSpec, budgets: &Budgets) -> Option<Duration> {
    let limit = Duration::from_secs(spec.boot_timeout?.into());
    Some(Duration::from_secs(budgets.on_this_host(limit).as_secs()))
}

/// Derives a locally administered MAC address (IEEE 802) from the IPv4 address.
fn mac_of(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr::new([0x52, 0x54, a, b, c, d])
}

fn attachment(node: &NodePlan) -> Attachment {
    let mut forwards = vec![MACHINE_API_PORT];
    if node.spec.kind == Kind::ControlPlane {
        forwards.push(KUBERNETES_API_PORT);
    }
    Attachment { node: node.spec.name.clone(), mac: node.mac, address: node.address, forwards }
}
