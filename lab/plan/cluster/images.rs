//! The container images that a cluster requires.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    network_plugin::NetworkPlugin,
    plan::{NodePlan, Plan},
};
use crate::config::{NodeSoftware, mirror_ports, mirrored_upstreams, pulled_images, system_images};

/// The name prefix of images that only `make images` builds.
const BUILT_HERE: &str = "lab.local/";

/// Images that the mirror lacks, each with its users.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingImages(BTreeMap<String, Vec<String>>);

impl MissingImages {
    /// Returns the images in `needed` for which `there` returns false, each with its users.
    pub fn among(
        needed: impl IntoIterator<Item = (String, String)>,
        there: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (image, who) in needed.into_iter().filter(|(image, _)| !there(image)) {
            missing.entry(image).or_default().push(who);
        }
        Self::some(missing)
    }

    /// Splits the images into those that another registry may provide, and those that only this project
    /// builds.
    pub fn by_whether_they_can_be_fetched(self) -> (Option<Self>, Option<Self>) {
        let (lost, fetched) = self.0.into_iter().partition(|(image, _)| image.starts_with(BUILT_HERE));
        (Self::some(fetched), Self::some(lost))
    }

    /// Returns each image with its users, in one line.
    pub fn each(&self) -> String {
        let each = self.0.iter().map(|(image, who)| format!("{image} (for {})", who.join(", ")));
        each.collect::<Vec<_>>().join("; ")
    }

    fn some(missing: BTreeMap<String, Vec<String>>) -> Option<Self> {
        (!missing.is_empty()).then_some(Self(missing))
    }
}

impl Plan {
    /// Returns the images that the nodes pull for themselves or for the network plugin, each with its
    /// user.
    pub fn pulled_images(&self) -> impl Iterator<Item = (String, String)> {
        let of_node = |node: &NodePlan| {
            let images = pulled_images(&node.config, node.spec.kind, &node.software());
            let name = node.spec.name.to_string();
            images.into_iter().map(move |image| (image, name.clone())).collect::<Vec<_>>()
        };
        let of_plugin = match &self.spec.network_plugin {
            NetworkPlugin::OfTheConfig => Vec::new(),
            NetworkPlugin::Manifests(manifests) => manifests
                .iter()
                .flat_map(|manifest| manifest.images().into_iter().map(|image| (image, manifest.to_string())))
                .collect(),
        };
        self.nodes.iter().flat_map(of_node).chain(of_plugin)
    }

    /// Returns the upstream registries with mirrors in the nodes' configs.
    pub fn mirrored_upstreams(&self) -> BTreeSet<String> {
        self.nodes.iter().flat_map(|node| mirrored_upstreams(&node.config)).collect()
    }

    /// Returns whether the machine configs enable cluster DNS.
    pub fn has_cluster_dns(&self) -> bool {
        self.pulled_images().any(|(image, _)| image.contains("coredns"))
    }

    /// Returns the ports of registry mirrors at the LAN gateway address in the nodes' configs, each with
    /// its upstreams.
    pub fn mirror_ports(&self) -> BTreeMap<u16, BTreeSet<String>> {
        let mut ports: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
        for (port, upstreams) in
            self.nodes.iter().flat_map(|node| mirror_ports(&node.config, self.lan.gateway))
        {
            ports.entry(port).or_default().extend(upstreams);
        }
        ports
    }
}

/// Returns the images of the node's own services.
pub(super) fn system_images_of(node: &NodePlan) -> Vec<String> {
    system_images(&node.config, node.spec.kind, &node.software())
}

impl NodePlan {
    /// Returns the software of the node, according to its image.
    pub(super) fn software(&self) -> NodeSoftware {
        self.release.clone().map_or(NodeSoftware::Reference, NodeSoftware::Talos)
    }
}

impl fmt::Display for MissingImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the mirror lacks images that the cluster needs: {}. Build those of the reference node with `make images`",
            self.each()
        )?;
        let others = self.0.keys().filter(|image| !image.starts_with(BUILT_HERE)).map(String::as_str);
        let others = others.collect::<Vec<_>>().join(" ");
        if others.is_empty() {
            return Ok(());
        }
        write!(f, ", have them fetched with --pull-through, or fetch them: lab mirror pull {others}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_named_with_who_needs_it() {
        let needed = [
            ("a/pause:1", "cp-1"),
            ("a/pause:1", "worker-1"),
            ("a/dns:1", "cp-1"),
            ("lab.local/echo:v1", "checks"),
        ];
        let needed = || needed.iter().map(|(image, who)| ((*image).to_owned(), (*who).to_owned()));
        let missing = MissingImages::among(needed(), |image| image == "a/dns:1").expect("missing");
        let text = missing.to_string();
        assert!(text.contains("a/pause:1 (for cp-1, worker-1); lab.local/echo:v1 (for checks)"), "{text}");
        assert!(text.ends_with("lab mirror pull a/pause:1"), "{text}");
        assert_eq!(MissingImages::among(needed(), |_| true), None);

        let (fetched, lost) = missing.by_whether_they_can_be_fetched();
        assert_eq!(
            fetched.as_ref().map(MissingImages::each).as_deref(),
            Some("a/pause:1 (for cp-1, worker-1)")
        );
        assert_eq!(lost.as_ref().map(MissingImages::each).as_deref(), Some("lab.local/echo:v1 (for checks)"));
        assert!(lost.is_some_and(|images| images.to_string().ends_with("with `make images`")));
    }
}
