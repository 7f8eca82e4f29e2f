//! Input data for generated machine configs.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_model::node::{Kind, NodeName};
use serde::{Deserialize, Serialize};

use super::{lab_patches::LabPatches, release::TalosRelease};

/// The document format of a Talos version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TalosContract {
    /// Talos 1.11.
    #[serde(rename = "v1.11")]
    V1_11,
    /// Talos 1.12: the host name has a separate document, and flags with only one remaining option are gone.
    #[serde(rename = "v1.12")]
    V1_12,
    /// Talos 1.13 and later: generated configs without an empty `machine.network`, and more kinds of documents.
    #[default]
    #[serde(rename = "v1.13")]
    V1_13,
}

impl TalosContract {
    /// All contracts, oldest first.
    pub const ALL: [Self; 3] = [Self::V1_11, Self::V1_12, Self::V1_13];

    /// Returns the spelling in scenario files and in the reference node's kernel argument
    /// `lab.talos-contract`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_11 => "v1.11",
            Self::V1_12 => "v1.12",
            Self::V1_13 => "v1.13",
        }
    }

    /// Returns the contract of Talos `version`, with or without a leading `v`. Returns `None` for text
    /// that is not a version, and for releases before 1.11, which the lab does not support.
    pub fn of_version(version: &str) -> Option<Self> {
        let mut whole = version.trim_start_matches('v').to_owned();
        if whole.split('.').count() == 2 {
            whole.push_str(".0");
        }
        whole.parse::<TalosRelease>().ok()?.contract()
    }
}

/// Settings that all nodes of a cluster share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterConfig {
    pub name: String,
    /// Address of the API server for kubelet and clients: `https://ADDRESS:6443`.
    pub endpoint_address: Ipv4Addr,
    /// The document format.
    pub contract: TalosContract,
    /// Kubernetes version without `v`.
    pub kubernetes_version: String,
    /// The LAN, for the selection of node addresses.
    pub lan: Ipv4Net,
    /// Gateway of the LAN; serves DNS and NTP.
    pub gateway: Ipv4Addr,
    /// Pod network.
    pub pods: Ipv4Net,
    /// Service network.
    pub services: Ipv4Net,
    /// Cluster DNS domain.
    pub dns_domain: String,
    /// Registry mirrors for container images.
    pub mirrors: Vec<RegistryMirror>,
    /// Whether nodes first look for container images on a disk (Talos image cache).
    pub image_cache: bool,
    /// Whether the user's manifests provide the network plugin.
    pub own_network_plugin: bool,
    /// Whether control planes accept ordinary pods.
    pub schedule_on_control_planes: bool,
    /// The lab patches for the configs.
    pub lab_patches: LabPatches,
}

/// A mirror for an upstream registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryMirror {
    /// Host name of the upstream, e.g. `registry.k8s.io`.
    pub upstream: String,
    /// URL of the mirror, plain HTTP.
    pub endpoint: String,
}

/// Settings of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Host name.
    pub name: NodeName,
    /// Kubernetes node type: control plane or worker.
    pub kind: Kind,
    /// Kernel modules that extension services of the image wait for, and that no patch of the user names.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Whether the network plugin is Flannel, the default of Talos: neither the cluster nor a patch of the user brings
    /// another one.
    #[serde(default)]
    pub flannel: bool,
}

impl NodeConfig {
    /// The settings of a node with the default network plugin and without modules.
    pub fn new(name: NodeName, kind: Kind) -> Self {
        Self { name, kind, modules: Vec::new(), flannel: true }
    }
}
