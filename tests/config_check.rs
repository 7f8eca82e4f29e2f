//! `lab config check` against Talos' own library, for each release.

#[path = "config_check/differential.rs"]
mod differential;
#[path = "machinery/oracle.rs"]
mod oracle;
#[path = "config_check/rules.rs"]
mod rules;
#[path = "support/validator.rs"]
mod validator;

use std::sync::OnceLock;

use lab_model::node::{Kind, NodeName};
use lab_plan::config::{
    ClusterConfig, LabPatches, NodeConfig, RegistryMirror, SecretsBundle, TalosContract, generate,
};
use oracle::Version;

fn version(contract: TalosContract) -> Version {
    match contract {
        TalosContract::V1_11 => Version::V1_11,
        TalosContract::V1_12 => Version::V1_12,
        TalosContract::V1_13 => Version::V1_13,
    }
}

fn cluster(contract: TalosContract) -> ClusterConfig {
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

/// One bundle for all tests: making keys is the slow part.
fn secrets() -> &'static SecretsBundle {
    static SECRETS: OnceLock<SecretsBundle> = OnceLock::new();
    SECRETS.get_or_init(|| SecretsBundle::generate(jiff::Timestamp::now()).expect("secrets"))
}

/// A config that the lab generates.
fn generated(cluster: &ClusterConfig, kind: Kind) -> String {
    let node = NodeConfig { name: NodeName::new("node-1").expect("name"), kind };
    generate(cluster, &node, secrets()).to_yaml().expect("yaml")
}
