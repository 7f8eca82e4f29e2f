//! `lab config`: machine configs, checked before a boot.

use clap::{Args, Subcommand};
use lab_model::{
    ExitCode,
    node::{Kind, NodeName},
};
use lab_plan::{
    cluster::NetworkSpec,
    config::{ClusterConfig, LabPatchId, LabPatches, NodeConfig, Profile, RegistryMirror, TalosContract},
    lint::catalogue,
};

use super::{Failed, config_check::Check, print_line};

#[derive(Subcommand)]
pub enum Config {
    /// Check machine configs and patches; each finding has a file, a line and a fix
    Check(Check),
    /// List the rules, or explain one rule with a wrong and a right example
    Rules {
        /// Id of the rule
        rule: Option<String>,
    },
    /// List the patches that the lab applies to machine configs, with their reasons, or print one patch
    Lab(Lab),
}

/// List the patches that the lab applies to machine configs, with their reasons, or print one patch.
#[derive(Args)]
pub struct Lab {
    /// Id of the patch, e.g. lab/time; a scenario disables it with `cluster.labPatches.off`
    #[arg(value_name = "PATCH")]
    patch: Option<LabPatchId>,
    /// Talos version to print the patch for
    #[arg(long, value_name = "VERSION", default_value = TalosContract::default().as_str(), value_parser = contract)]
    talos: TalosContract,
}

/// Parses a release.
pub(super) fn contract(text: &str) -> Result<TalosContract, String> {
    TalosContract::of_version(text).ok_or_else(|| "write a release from v1.11 on, as v1.13.9".to_owned())
}

impl Config {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Check(check) => check.run(),
            Self::Lab(lab) => lab.run(),
            Self::Rules { rule: None } => {
                for entry in catalogue() {
                    let severity = entry.severity.to_string();
                    print_line(format_args!("{:<28} {severity:<8} {}", entry.id, entry.finds));
                }
                Ok(ExitCode::Passed)
            }
            Self::Rules { rule: Some(id) } => {
                let entry = catalogue().iter().find(|entry| entry.id == id).ok_or_else(|| {
                    let message = format!("there is no rule \"{id}\"; `lab config rules` lists them");
                    Failed::new(ExitCode::BadInput, message)
                })?;
                print_line(entry);
                Ok(ExitCode::Passed)
            }
        }
    }
}

impl Lab {
    fn run(self) -> Result<ExitCode, Failed> {
        let Some(patch) = self.patch else {
            for line in LabPatchId::all().map(LabPatchId::line) {
                print_line(format_args!("{:<22} {:<12} {}", line.id, line.nodes, line.reason));
            }
            print_line(
                "speed/… are merged into configs when a scenario says `cluster.profile: speed`, lab/… unless it \
                 switches them off; those for emulated Talos nodes only where there are such nodes",
            );
            return Ok(ExitCode::Passed);
        };
        let Some(found) = patch.patch(&example_cluster(self.talos), &example_node()?) else {
            return Ok(ExitCode::Passed);
        };
        print_line(format_args!("# {} (for: {}): {}", patch, patch.line().nodes, patch.line().reason));
        for document in &found.documents {
            let text =
                serde_yaml::to_string(document).map_err(|error| Failed::new(ExitCode::Internal, error))?;
            print_line(text.trim_end());
        }
        Ok(ExitCode::Passed)
    }
}

fn example(name: &str) -> Result<NodeName, Failed> {
    NodeName::new(name).map_err(|error| Failed::new(ExitCode::Internal, error))
}

/// A node to which every patch applies.
fn example_node() -> Result<NodeConfig, Failed> {
    let node = NodeConfig::new(example("cp-1")?, Kind::ControlPlane);
    Ok(NodeConfig { modules: vec!["zfs".into()], ..node })
}

/// The cluster of a scenario that says nothing about its networks.
fn example_cluster(contract: TalosContract) -> ClusterConfig {
    let network = NetworkSpec::default();
    let gateway = network.gateway();
    ClusterConfig {
        name: "lab".into(),
        endpoint_address: gateway,
        contract,
        kubernetes_version: String::new(),
        lan: network.lan,
        gateway,
        pods: network.pods,
        services: network.services,
        dns_domain: network.dns_domain,
        mirrors: vec![RegistryMirror {
            upstream: "registry.k8s.io".into(),
            endpoint: format!("http://{gateway}:5000"),
        }],
        image_cache: true,
        own_network_plugin: true,
        schedule_on_control_planes: true,
        lab_patches: LabPatches { profile: Profile::Speed, ..LabPatches::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_that_is_listed_can_be_printed() {
        let Ok(node) = example_node() else { panic!("a node") };
        let cluster = example_cluster(TalosContract::default());
        let silent: Vec<_> = LabPatchId::all().filter(|id| id.patch(&cluster, &node).is_none()).collect();
        assert!(silent.is_empty(), "{silent:?}");
    }
}
