//! The cluster whose generated configs the library judges.

use lab_plan::config::{ClusterConfig, LabPatches, RegistryMirror, TalosContract};

use super::oracle::Version;

/// The version of the library for a contract.
pub fn version(contract: TalosContract) -> Version {
    match contract {
        TalosContract::V1_11 => Version::V1_11,
        TalosContract::V1_12 => Version::V1_12,
        TalosContract::V1_13 => Version::V1_13,
    }
}

/// A cluster with a mirror and the default patches of the lab.
pub fn cluster(contract: TalosContract) -> ClusterConfig {
    ClusterConfig {
        name: "lab".into(),
        endpoint_address: [10, 5, 0, 2].into(),
        contract,
        kubernetes_version: "1.34.2".into(),
        lan: "10.5.0.0/24".parse().expect("range"),
        gateway: [10, 5, 0, 1].into(),
        pods: "10.244.0.0/16".parse().expect("range"),
        services: "10.96.0.0/12".parse().expect("range"),
        dns_domain: "cluster.local".into(),
        mirrors: vec![RegistryMirror {
            upstream: "registry.k8s.io".into(),
            endpoint: "http://10.5.0.1:5000".into(),
        }],
        image_cache: false,
        own_network_plugin: false,
        schedule_on_control_planes: false,
        lab_patches: LabPatches::default(),
    }
}
