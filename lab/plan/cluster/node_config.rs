//! A node's machine config: generated, or the user's config with the required changes of the lab.

use std::net::{IpAddr, Ipv4Addr};

use lab_image::Contents;
use lab_model::{node::Kind, redact};
use serde::Serialize;
use serde_json::json;
use similar::TextDiff;

use super::{
    extension_modules::modules_waited_for,
    plan_error::PlanError,
    spec::{ClusterSpec, NodeSpec},
};
use crate::{
    config::{
        ClusterConfig, LabPatchId, MachineConfig, NodeConfig, SecretsBundle, SecretsError, Talosconfig,
        generate, talosconfig,
    },
    own_configs::OwnFile,
};

/// The lab's changes to a user's config, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnConfigChange {
    /// The file name.
    pub file: String,
    /// The lab patches that changed the file.
    pub patches: Vec<LabPatchId>,
    /// A unified diff of the file. Empty if nothing changed.
    pub diff: String,
}

/// Returns the cluster's secrets: those of the user's control plane, or generated ones.
pub(super) fn secrets(spec: &ClusterSpec, now: jiff::Timestamp) -> Result<SecretsBundle, PlanError> {
    let control_plane = spec.nodes_of(Kind::ControlPlane).next();
    match control_plane.and_then(|node| Some((node, node.config.as_ref()?))) {
        Some((node, file)) => {
            let config = patched(spec, node, as_written(node, file)?)?;
            Ok(SecretsBundle::of_control_plane(&config))
        }
        None => Ok(SecretsBundle::generate(now)?),
    }
}

/// Returns the administrator's client file: the user's file with the endpoints of the lab's nodes, or a
/// generated file.
pub(super) fn client_file(
    spec: &ClusterSpec,
    addresses: &[IpAddr],
    secrets: &SecretsBundle,
    now: jiff::Timestamp,
) -> Result<Talosconfig, PlanError> {
    let of =
        |file: &OwnFile, source: SecretsError| PlanError::OwnSecrets { file: file.origin.clone(), source };
    if let Some(file) = spec.own.as_ref().and_then(|own| own.talosconfig.as_ref()) {
        let client = Talosconfig::from_yaml(&file.text).map_err(|error| of(file, error.into()))?;
        return Ok(client.dialling(addresses));
    }
    let control_plane = spec.nodes_of(Kind::ControlPlane).find_map(|node| node.config.as_ref());
    talosconfig(spec.name.as_str(), addresses, secrets, now).map_err(|error| match control_plane {
        Some(file) => of(file, error),
        None => error.into(),
    })
}

/// Returns the config of a node at `address`. `foreign` injects a fault: it sets the bootstrap token of
/// `secrets`, independent of the file.
pub(super) fn node_config(
    spec: &ClusterSpec,
    cluster: &ClusterConfig,
    secrets: &SecretsBundle,
    node: &NodeSpec,
    (image, address): (&Contents, Ipv4Addr),
    foreign: bool,
) -> Result<(MachineConfig, Option<OwnConfigChange>), PlanError> {
    let mut own = NodeConfig { flannel: false, ..NodeConfig::new(node.name.clone(), node.kind) };
    let base = match &node.config {
        Some(file) => as_written(node, file)?,
        None => generate(cluster, &own, secrets),
    };
    // What the user's patches say decides what the lab adds.
    let said = patched(spec, node, base.clone())?;
    own.flannel = !cluster.own_network_plugin && network_plugin(&said) == FLANNEL;
    let (config, change) = match &node.config {
        Some(file) => {
            let (config, change) = changed(cluster, &own, file, base, address);
            (config, Some(change))
        }
        None => {
            let modules = modules_waited_for(image).into_iter();
            own.modules = modules.filter(|module| !loads(&said, module)).collect();
            (joined(spec, generate(cluster, &own, secrets), node)?, None)
        }
    };
    let mut config = patched(spec, node, config)?;
    if foreign && node.config.is_some() {
        let token = json!({ "cluster": { "token": secrets.secrets.bootstraptoken } });
        config = config.patch([token.to_string().as_str()]).map_err(|source| unusable(node, source))?;
    }
    let said = config.hostname().map(str::to_owned);
    if said.as_deref().and_then(|name| name.split('.').next()) != Some(node.name.as_str()) {
        return Err(PlanError::Hostname { node: node.name.clone(), said });
    }
    let plugin = network_plugin(&config);
    if cluster.own_network_plugin && plugin != "none" {
        return Err(PlanError::TwoNetworkPlugins { node: node.name.clone(), plugin: plugin.to_owned() });
    }
    Ok((config, change))
}

/// The default of Talos (CNIConfig of the v1alpha1 config).
const FLANNEL: &str = "flannel";

/// The network plugin of a config.
fn network_plugin(config: &MachineConfig) -> &str {
    config.text_at(&["cluster", "network", "cni", "name"]).unwrap_or(FLANNEL)
}

/// Whether a config names the module.
fn loads(config: &MachineConfig, module: &str) -> bool {
    let modules = config.main().and_then(|main| main.pointer("/machine/kernel/modules")?.as_array());
    modules.into_iter().flatten().any(|entry| entry["name"] == module)
}

fn unusable(node: &NodeSpec, source: crate::config::ConfigError) -> PlanError {
    let origin = node.config.as_ref().map_or("the machine config", |file| file.origin.as_str()).to_owned();
    PlanError::Patch { node: node.name.clone(), origin, source }
}

fn as_written(node: &NodeSpec, file: &OwnFile) -> Result<MachineConfig, PlanError> {
    MachineConfig::as_written(&file.text).map_err(|source| unusable(node, source))
}

/// Applies the user's patches for the node to a config.
fn patched(spec: &ClusterSpec, node: &NodeSpec, config: MachineConfig) -> Result<MachineConfig, PlanError> {
    spec.patches_for(node).try_fold(config, |config, patch| {
        config.patch([patch.text.as_str()]).map_err(|source| PlanError::Patch {
            node: node.name.clone(),
            origin: patch.origin.clone(),
            source,
        })
    })
}

/// Sets the endpoint and name of the user's control plane config in a generated config.
fn joined(spec: &ClusterSpec, config: MachineConfig, node: &NodeSpec) -> Result<MachineConfig, PlanError> {
    let Some(own) = &spec.own else { return Ok(config) };
    let patch =
        json!({ "cluster": { "clusterName": own.name, "controlPlane": { "endpoint": own.endpoint } } });
    config.patch([patch.to_string().as_str()]).map_err(|source| unusable(node, source))
}

/// Applies the lab patches to a user's config, and returns the changes.
fn changed(
    cluster: &ClusterConfig,
    node: &NodeConfig,
    file: &OwnFile,
    mut config: MachineConfig,
    address: Ipv4Addr,
) -> (MachineConfig, OwnConfigChange) {
    let mut patches = Vec::new();
    for patch in cluster.lab_patches.of_own(&config, cluster, node, address) {
        let before = config.clone();
        config.merge(&patch);
        if config != before {
            patches.push(patch.id);
        }
    }
    // Redact each text as a whole, because a single diff line does not show its block.
    let (before, after) = (redact(&file.text), redact(&config.to_yaml().unwrap_or_default()));
    let diff = TextDiff::from_lines(&before, &after)
        .unified_diff()
        .context_radius(2)
        .header(&file.origin, &format!("{} as {} gets it", file.origin, node.name))
        .to_string();
    (config, OwnConfigChange { file: file.origin.clone(), patches, diff })
}
