//! A scenario with machine configs of the user's own, as files: each run of a test makes them with
//! secrets of their own.

use std::path::{Path, PathBuf};

use anyhow::Result;
use lab_model::node::{Kind, NodeName};
use lab_plan::config::{
    ClusterConfig, LabPatchId, LabPatches, NodeConfig, SecretsBundle, TalosContract, generate,
};

const SCENARIO: &str = include_str!("../scenarios/own-configs/own-configs.yaml");

/// Writes the scenario and its configs to `directory` and returns the scenario's path. Without the
/// lab's patches a generated config is what `talosctl gen config` makes (`tests/talos_config.rs`).
pub fn write(directory: &Path) -> Result<PathBuf> {
    let cluster = ClusterConfig {
        name: "elsewhere".into(),
        endpoint_address: [192, 168, 77, 10].into(),
        contract: TalosContract::V1_11,
        kubernetes_version: "1.34.1".into(),
        lan: "192.168.77.0/24".parse()?,
        gateway: [192, 168, 77, 1].into(),
        pods: "10.244.0.0/16".parse()?,
        services: "10.96.0.0/12".parse()?,
        dns_domain: "cluster.local".into(),
        mirrors: Vec::new(),
        image_cache: false,
        own_network_plugin: false,
        schedule_on_control_planes: false,
        lab_patches: LabPatches { off: LabPatchId::all().collect(), ..LabPatches::default() },
    };
    let secrets = SecretsBundle::generate(jiff::Timestamp::now())?;
    std::fs::create_dir_all(directory.join("configs"))?;
    for kind in [Kind::ControlPlane, Kind::Worker] {
        let node = NodeConfig::new(NodeName::new("any")?, kind);
        let config = generate(&cluster, &node, &secrets);
        let config = config.patch(["machine: { install: { disk: /dev/sda } }"])?.to_yaml()?;
        let text = format!("# Made elsewhere: every line counts.\n{config}# The end.\n");
        std::fs::write(directory.join(format!("configs/{}.yaml", kind.machine_type())), text)?;
    }
    let scenario = directory.join("own-configs.yaml");
    std::fs::write(&scenario, SCENARIO)?;
    Ok(scenario)
}
