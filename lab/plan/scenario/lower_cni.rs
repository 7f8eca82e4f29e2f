//! The `cluster.cni:` part of a scenario file: manifests of a network plugin.

use lab_model::{Diagnostic, diagnostic::yaml_options};

use super::{
    lower_cluster::yaml_fault,
    lowering::Lowering,
    raw::{RawCni, Text},
};
use crate::cluster::{Manifest, NetworkPlugin};

impl Lowering<'_> {
    pub(super) fn network_plugin(&mut self, raw: Option<&RawCni>) -> NetworkPlugin {
        let Some(raw) = raw else {
            return NetworkPlugin::OfTheConfig;
        };
        NetworkPlugin::Manifests(
            raw.manifests.iter().flat_map(|file| self.manifests(file, &file.value)).collect(),
        )
    }

    /// Reads the objects of a manifest file that the scenario refers to at `file`. Returns none after it has reported a
    /// problem.
    pub(super) fn manifests(&mut self, file: &Text, path: &str) -> Vec<Manifest> {
        const HELP: &str = "a manifest is one or more Kubernetes objects";
        let Some((origin, text)) = self.named_file(file, path, "manifest file") else {
            return Vec::new();
        };
        let objects: Vec<serde_json::Value> =
            match serde_saphyr::from_multiple_with_options(&text, yaml_options()) {
                Ok(objects) => objects,
                Err(error) => {
                    let (line, what) = yaml_fault(&error);
                    let message = format!("the manifest file is wrong: {origin}:{line}: {what}");
                    self.report(Diagnostic::at(file, message).help(HELP));
                    return Vec::new();
                }
            };
        let before = self.problems.len();
        let mut manifests = Vec::new();
        for (number, object) in objects.into_iter().enumerate() {
            match Manifest::new(&origin, object) {
                None => {}
                Some(Ok(manifest)) => manifests.push(manifest),
                Some(Err(problem)) => {
                    let message =
                        format!("the manifest file is wrong: {origin}, document {}: {problem}", number + 1);
                    self.report(Diagnostic::at(file, message).help(HELP));
                }
            }
        }
        if manifests.is_empty() && self.problems.len() == before {
            self.report(Diagnostic::at(file, format!("the manifest file {origin} has no object in it")));
        }
        manifests
    }
}
