//! From which data a machine config is generated.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_model::node::{Kind, NodeName};
use serde::{Deserialize, Serialize};

use super::lab_patches::LabPatches;

/// Which generation of documents a Talos version wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TalosContract {
    /// Talos 1.11.
    #[serde(rename = "v1.11")]
    V1_11,
    /// Talos 1.12 and 1.13: the host name has a document of its own, flags that became the only
    /// way are gone.
    #[default]
    #[serde(rename = "v1.13")]
    V1_13,
}

impl TalosContract {
    /// As scenario files and the reference node's kernel argument `lab.talos-contract` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_11 => "v1.11",
            Self::V1_13 => "v1.13",
        }
    }

    /// The generation that Talos `version` reads, with or without a leading `v`; none for text that
    /// is no version, and for releases before 1.11, which the lab does not know.
    pub fn of_version(version: &str) -> Option<Self> {
        let mut parts = version.trim_start_matches('v').split('.');
        let major: u32 = parts.next()?.parse().ok()?;
        let minor: u32 = parts.next()?.parse().ok()?;
        match (major, minor) {
            (1, 11) => Some(Self::V1_11),
            (1, 12..) | (2.., _) => Some(Self::V1_13),
            _ => None,
        }
    }
}

/// What the nodes of a cluster have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterConfig {
    /// Cluster name.
    pub name: String,
    /// Where kubelet and clients find the API server: `https://ADDRESS:6443`.
    pub endpoint_address: Ipv4Addr,
    /// Generation of documents.
    pub contract: TalosContract,
    /// Kubernetes version without `v`.
    pub kubernetes_version: String,
    /// The LAN, for choosing node addresses.
    pub lan: Ipv4Net,
    /// Gateway of the LAN; answers DNS and NTP.
    pub gateway: Ipv4Addr,
    /// Pod addresses.
    pub pods: Ipv4Net,
    /// Service addresses.
    pub services: Ipv4Net,
    /// Cluster DNS domain.
    pub dns_domain: String,
    /// Where images come from.
    pub mirrors: Vec<RegistryMirror>,
    /// Whether nodes look for container images on a disk first (Talos' image cache).
    pub image_cache: bool,
    /// Whether the network plugin comes from the user's manifests.
    pub own_network_plugin: bool,
    /// Whether ordinary pods may run on control planes.
    pub schedule_on_control_planes: bool,
    /// What the lab lays over the configs.
    pub lab_patches: LabPatches,
}

/// An upstream registry and what stands in for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryMirror {
    /// The upstream's host name, e.g. `registry.k8s.io`.
    pub upstream: String,
    /// The mirror's URL, plain HTTP.
    pub endpoint: String,
}

/// What is one node's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Host name.
    pub name: NodeName,
    /// What Kubernetes runs on it.
    pub kind: Kind,
}
