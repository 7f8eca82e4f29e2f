//! Lowers the machine config settings of `cluster:`: the user's own configs, and the enabled lab patches.

use std::collections::BTreeMap;

use lab_model::{
    Diagnostic,
    node::{Kind, NodeName},
    words::choice,
};

use super::{
    lowering::Lowering,
    raw::{RawCluster, RawNetwork, RawNode, Text},
};
use crate::{
    cluster::{NetworkSpec, NodeSpec, PatchSet},
    config::{LabPatchId, LabPatches},
    own_configs::{OwnCluster, OwnFile, RequestedCluster, RequestedNode, judge},
};

impl Lowering<'_> {
    /// Returns the enabled lab patches.
    pub(super) fn lab_patches(&mut self, raw: &RawCluster) -> LabPatches {
        let (on, off) = (self.patch_ids(&raw.lab_patches.on), self.patch_ids(&raw.lab_patches.off));
        if let Some((_, text)) = on.iter().find(|(id, _)| off.contains_key(id)) {
            let problem = Diagnostic::at(*text, format!("`on` and `off` both name \"{}\"", text.value));
            self.report(problem.help("keep one of them"));
        }
        LabPatches { profile: raw.profile, on: on.into_keys().collect(), off: off.into_keys().collect() }
    }

    /// Returns the patches of those names. Reports names that no patch has.
    fn patch_ids<'t>(&mut self, texts: &'t [Text]) -> BTreeMap<LabPatchId, &'t Text> {
        let mut ids = BTreeMap::new();
        for text in texts {
            match text.value.parse::<LabPatchId>() {
                Ok(id) => {
                    ids.insert(id, text);
                }
                Err(error) => {
                    let names: Vec<_> = LabPatchId::all().map(LabPatchId::as_str).collect();
                    let mut problem = Diagnostic::at(text, error.to_string());
                    problem.help = choice(&text.value, &names, "`lab config lab` tells what they are for");
                    self.report(problem);
                }
            }
        }
        ids
    }

    /// Assigns the user's configs to the nodes and returns their cluster settings. Returns `None` if no
    /// node has a config, or if problems were reported.
    pub(super) fn own_configs(
        &mut self,
        raw: &RawCluster,
        nodes: &mut [NodeSpec],
        origins: &[(NodeName, &RawNode)],
        patches: &PatchSet,
        lab_patches: &LabPatches,
    ) -> Option<OwnCluster> {
        let before = self.problems.len();
        let mut files: BTreeMap<String, (OwnFile, &Text)> = BTreeMap::new();
        let given =
            origins.iter().map(|(_, node)| node.config.as_ref().or_else(|| raw.configs.get(&node.kind)));
        for (node, text) in nodes.iter_mut().zip(given) {
            let Some(text) = text else { continue };
            if !files.contains_key(&text.value) {
                let file = self.own_file(text, "machine config")?;
                files.insert(text.value.clone(), (file, text));
            }
            node.config = files.get(&text.value).map(|(file, _)| file.clone());
        }
        for (kind, text) in &raw.configs {
            if !nodes.iter().any(|node| node.kind == *kind) {
                let message = format!("a config for the kind {}, but no node is one", kind.machine_type());
                self.report(Diagnostic::at(text, message).help("add such a node, or remove the line"));
            }
        }
        let talosconfig = match &raw.talosconfig {
            Some(text) if files.is_empty() => {
                let message = "a talosconfig without configs: generated ones have secrets of their own";
                let help = "give the configs that it belongs to: cluster.configs";
                self.report(Diagnostic::at(text, message).help(help));
                None
            }
            Some(text) => Some((self.own_file(text, "talosconfig")?, text)),
            None => None,
        };
        let has_control_plane = nodes.iter().any(|node| node.kind == Kind::ControlPlane);
        if files.is_empty() || !has_control_plane || self.problems.len() > before {
            return None;
        }
        let asked_nodes = nodes.iter().map(|node| RequestedNode {
            name: &node.name,
            kind: node.kind,
            file: node.config.as_ref(),
            patches: patches.of(node).map(|patch| patch.text.as_str()).collect(),
        });
        let asked = RequestedCluster {
            nodes: asked_nodes.collect(),
            lan: raw.network.lan.as_ref().and_then(|text| text.value.parse().ok()),
            lab_patches,
            talosconfig: talosconfig.as_ref().map(|(file, _)| file),
            default_lan: NetworkSpec::default().lan,
        };
        match judge(&asked) {
            Ok(own) => Some(own),
            Err(refusals) => {
                let named = files.values().chain(&talosconfig);
                let places: Vec<_> = named.map(|(file, text)| (file.origin.clone(), *text)).collect();
                for refusal in refusals {
                    let message = format!("this file cannot be used as it is: {}", refusal.without_help());
                    let place = places.iter().find(|(origin, _)| *origin == refusal.file);
                    let problem = place.map_or_else(
                        || Diagnostic::of_file(message.clone()),
                        |(_, text)| Diagnostic::at(text, message.clone()),
                    );
                    self.report(Diagnostic { help: refusal.help, ..problem });
                }
                None
            }
        }
    }

    /// Returns the networks of the user's configs. The scenario may only repeat them.
    pub(super) fn own_network(
        &mut self,
        raw: &RawNetwork,
        network: NetworkSpec,
        own: Option<&OwnCluster>,
    ) -> Option<NetworkSpec> {
        let Some(own) = own else { return Some(network) };
        let default = NetworkSpec::default();
        let theirs = NetworkSpec {
            pods: own.pods.unwrap_or(default.pods),
            services: own.services.unwrap_or(default.services),
            lan: own.lan,
            dns_domain: own.dns_domain.clone().unwrap_or(default.dns_domain),
        };
        let before = self.problems.len();
        for (text, here, there) in [
            (&raw.pods, network.pods.to_string(), theirs.pods.to_string()),
            (&raw.services, network.services.to_string(), theirs.services.to_string()),
            (&raw.dns_domain, network.dns_domain, theirs.dns_domain.clone()),
        ] {
            if let Some(text) = text.as_ref().filter(|_| here != there) {
                let message = format!("the scenario says {here} and its control plane's own config {there}");
                self.report(Diagnostic::at(text, message).help("leave the line out: the config decides"));
            }
        }
        (self.problems.len() == before).then_some(theirs)
    }

    fn own_file(&mut self, text: &Text, what: &str) -> Option<OwnFile> {
        let (origin, text) = self.named_file(text, &text.value, what)?;
        Some(OwnFile { origin, text })
    }
}
