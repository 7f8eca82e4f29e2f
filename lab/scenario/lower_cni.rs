//! The `cluster.cni:` part of a scenario file: manifests of a network plugin.

use std::path::Path;

use super::{
    file::Lowering,
    problem::Problem,
    raw::{RawCni, Text, yaml_options},
};
use crate::{cluster::NetworkPlugin, kubernetes::Manifest};

impl Lowering<'_> {
    pub(super) fn network_plugin(&mut self, raw: Option<&RawCni>) -> NetworkPlugin {
        let Some(raw) = raw else {
            return NetworkPlugin::OfTheConfig;
        };
        NetworkPlugin::Manifests(raw.manifests.iter().flat_map(|file| self.manifests(file)).collect())
    }

    fn manifests(&mut self, file: &Text) -> Vec<Manifest> {
        let path = self.resolve(Path::new(&file.value));
        let origin = path.display().to_string();
        let text = match (self.read)(&path) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("the manifest file {origin} cannot be read: {error}");
                let help = "paths start from the directory of the scenario file";
                self.report(Problem::at(file, message).help(help));
                return Vec::new();
            }
        };
        let objects: Vec<serde_json::Value> =
            match serde_saphyr::from_multiple_with_options(&text, yaml_options()) {
                Ok(objects) => objects,
                Err(error) => {
                    let inner = Problem::from_yaml(&error);
                    let line = inner.place.map_or(1, |place| place.line);
                    let message = format!("the manifest file is wrong: {origin}:{line}: {}", inner.message);
                    self.report(
                        Problem::at(file, message).help("a manifest is one or more Kubernetes objects"),
                    );
                    return Vec::new();
                }
            };
        let mut manifests = Vec::new();
        for (number, object) in objects.into_iter().enumerate() {
            match Manifest::new(&origin, object) {
                None => {}
                Some(Ok(manifest)) => manifests.push(manifest),
                Some(Err(problem)) => {
                    let message =
                        format!("the manifest file is wrong: {origin}, document {}: {problem}", number + 1);
                    self.report(
                        Problem::at(file, message).help("a manifest is one or more Kubernetes objects"),
                    );
                }
            }
        }
        if manifests.is_empty() && !self.problems.iter().any(|problem| problem.message.contains(&origin)) {
            self.report(Problem::at(file, format!("the manifest file {origin} has no object in it")));
        }
        manifests
    }
}
