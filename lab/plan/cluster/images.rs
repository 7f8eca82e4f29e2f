//! The container images that a cluster cannot do without.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    network_plugin::NetworkPlugin,
    plan::{NodePlan, Plan},
};
use crate::config::{NodeSoftware, mirror_ports, pulled_images};

/// What the names of images begin with that only `make images` makes.
const BUILT_HERE: &str = "lab.local/";

/// Images that the mirror lacks, each with who needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingImages(BTreeMap<String, Vec<String>>);

impl MissingImages {
    /// Those of `needed` that are not `there`; each is told with who needs it.
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

    /// Those that a registry elsewhere may have, and those that none has: only this project builds
    /// them.
    pub fn by_whether_they_can_be_fetched(self) -> (Option<Self>, Option<Self>) {
        let (lost, fetched) = self.0.into_iter().partition(|(image, _)| image.starts_with(BUILT_HERE));
        (Self::some(fetched), Self::some(lost))
    }

    /// Each image with who needs it, in one line.
    pub fn each(&self) -> String {
        let each = self.0.iter().map(|(image, who)| format!("{image} (for {})", who.join(", ")));
        each.collect::<Vec<_>>().join("; ")
    }

    fn some(missing: BTreeMap<String, Vec<String>>) -> Option<Self> {
        (!missing.is_empty()).then_some(Self(missing))
    }
}

impl Plan {
    /// The images that the nodes pull by themselves or for the network plugin, each with who needs it.
    pub fn pulled_images(&self) -> impl Iterator<Item = (String, String)> {
        let of_node = |node: &NodePlan| {
            let images =
                pulled_images(&node.config, node.spec.kind, node.software(), self.spec.talos_contract);
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

    /// Whether the machine configs have cluster DNS started.
    pub fn has_cluster_dns(&self) -> bool {
        self.pulled_images().any(|(image, _)| image.contains("coredns"))
    }

    /// The ports of the LAN's gateway address that the nodes' configs name as registry mirrors, each
    /// with the upstreams that it stands in for.
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

impl NodePlan {
    /// What its image runs, by what that says of itself.
    pub(super) fn software(&self) -> NodeSoftware {
        match &self.image.contents.node_version {
            Some(version) if version.starts_with("Talos") => NodeSoftware::Talos,
            _ => NodeSoftware::Reference,
        }
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
