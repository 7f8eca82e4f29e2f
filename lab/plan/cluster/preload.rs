//! What a preloaded disk contains, and the node that makes it.
//!
//! Under emulation, nodes spend much of their time on the decompression of container images, each node for itself and
//! at each formation (containerd took 76 of the 361 CPU seconds of a Talos v1.13.9 control plane until it was Ready).
//! One node of the lab pulls these images with the calls of its own machine API, wipes its STATE partition (its
//! config and its identity) and powers off. Nodes of later clusters start from a copy of its disk. They find no
//! config, as on an empty disk, and their images are there.

use std::collections::{BTreeMap, BTreeSet};

use lab_model::{
    Digest, Size,
    node::{Kind, NodeName, Role},
    reference::name_of,
};
use serde::Serialize;
use serde_json::json;

use super::{
    image_delivery::ImageDelivery,
    images::system_images_of,
    network_plugin::NetworkPlugin,
    plan::{NodePlan, Plan},
    spec::{ClusterSpec, NodeSpec, Patch, PatchSet},
};
use crate::config::LabPatches;
/// The name of the cluster and of the node.
const NAME: &str = "preload";

/// The repository of the node's kubelet image. The registry never answers requests for it, so that the kubelet does not
/// start and leaves no keys and no certificates on the disk.
pub const HELD_KUBELET: &str = "lab.local/preload/kubelet";

/// A namespace of containerd, which has its own images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageNamespace {
    /// Of the node's services: kubelet and etcd.
    System,
    /// Of pods.
    Cri,
}

/// The content of a preloaded disk. Disks with equal content are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskContents {
    /// The image that wrote the disk, the control plane's. What one image wrote never gets to a cluster of another.
    pub image: Digest,
    /// Size of the disk.
    pub disk: Size,
    /// The images by their references, with their digests in the mirror.
    pub images: BTreeMap<String, ImageOnDisk>,
}

/// An image of a preloaded disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageOnDisk {
    pub namespace: ImageNamespace,
    /// The digest of the manifest in the mirror.
    pub digest: String,
}

impl Plan {
    /// The contents of the disk that nodes of this plan start from, with the images that `digest` knows. `None` if the plan
    /// delivers images in another way.
    pub fn preloaded_contents(&self, digest: impl Fn(&str) -> Option<String>) -> Option<DiskContents> {
        if self.delivery != ImageDelivery::Preloaded {
            return None;
        }
        let node = self.control_plane();
        let of_services: BTreeSet<_> = self.nodes.iter().flat_map(system_images_of).collect();
        let images = self.pulled_images().filter_map(|(image, _)| {
            let namespace =
                if of_services.contains(&image) { ImageNamespace::System } else { ImageNamespace::Cri };
            let digest = digest(&image)?;
            // By its digest, so that the node still asks the registry for the tag. It gets an answer when the component
            // can work, and finds the layers unpacked.
            let reference = match self.is_sent_late(&image) {
                true => format!("{}@{digest}", name_of(&image)),
                false => image,
            };
            Some((reference, ImageOnDisk { namespace, digest }))
        });
        Some(DiskContents {
            image: node.image.digest.clone(),
            disk: node.spec.disk,
            images: images.collect(),
        })
    }

    /// Whether a node can start from the disk that a node like the control plane made.
    pub fn can_start_preloaded(&self, node: &NodePlan) -> bool {
        let maker = self.control_plane();
        (node.release.as_ref(), node.spec.disk) == (maker.release.as_ref(), maker.spec.disk)
    }

    /// The cluster of the one node that makes the disk: a control plane, since a worker has no machine API of its own
    /// before it has joined. Nothing bootstraps it.
    pub fn preloading_spec(&self) -> ClusterSpec {
        let like = &self.control_plane().spec;
        let name = NodeName::new(NAME).unwrap_or_else(|_| like.name.clone());
        let image = self.spec.images.get(&like.role);
        // Talos reads the version from the tag.
        let held = format!("{HELD_KUBELET}:v{}", self.kubernetes_version);
        let patch = json!({ "machine": { "kubelet": { "image": held } } });
        ClusterSpec {
            name: name.clone(),
            nodes: vec![NodeSpec {
                vcpus: like.vcpus.max(NodeSpec::default_vcpus(Kind::ControlPlane)),
                disk: like.disk,
                patches: vec![Patch { origin: NAME.to_owned(), text: patch.to_string() }],
                ..NodeSpec::new(name, Kind::ControlPlane, like.role.clone())
            }],
            images: image.map(|image| (like.role.clone(), image.clone())).into_iter().collect(),
            kubernetes_version: Some(self.kubernetes_version.clone()),
            gateways: usize::from(like.role.as_str() == Role::GATEWAY),
            own: None,
            // Its config is the lab's own, also where that of the cluster is not.
            lab_patches: LabPatches::default(),
            patches: PatchSet::default(),
            late_documents: BTreeMap::new(),
            tailnet: None,
            boot_timeout: None,
            network_plugin: NetworkPlugin::OfTheConfig,
            image_delivery: ImageDelivery::Mirror,
            ..self.spec.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use lab_model::accelerator::Accelerator;

    use super::*;
    use crate::cluster::release::tests::{planned_with, spec};

    fn contents(plan: &Plan) -> Option<DiskContents> {
        plan.preloaded_contents(|image| {
            (!image.contains("coredns")).then(|| format!("sha256:{}", image.len()))
        })
    }

    #[test]
    fn a_disk_has_the_images_of_the_mirror_and_those_that_come_late_by_digest_only() {
        let plan = planned_with("Talos (v1.13.9)", spec(), Accelerator::Tcg).expect("plan");
        let contents = contents(&plan).expect("preloaded");
        assert_eq!(contents.image, plan.control_plane().image.digest);
        let of = |wanted| {
            let images = contents.images.iter().filter(move |(_, image)| image.namespace == wanted);
            images.map(|(reference, _)| reference.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(
            of(ImageNamespace::System),
            ["ghcr.io/siderolabs/kubelet:v1.36.3", "registry.k8s.io/etcd:v3.6.12"]
        );
        assert_eq!(
            of(ImageNamespace::Cri),
            [
                "ghcr.io/siderolabs/flannel:0.28.8",
                "registry.k8s.io/kube-apiserver:v1.36.3",
                "registry.k8s.io/kube-controller-manager@sha256:47",
                "registry.k8s.io/kube-proxy:v1.36.3",
                "registry.k8s.io/kube-scheduler@sha256:38",
                "registry.k8s.io/pause:3.10.1",
            ]
        );
    }

    #[test]
    fn only_a_plan_that_preloads_has_a_disk_and_only_like_nodes_can_use_it() {
        let mut mixed = spec();
        mixed.nodes[1].disk = Size::gib(8);
        let plan = planned_with("Talos (v1.13.9)", mixed, Accelerator::Tcg).expect("plan");
        assert!(plan.can_start_preloaded(plan.control_plane()));
        assert!(!plan.workers().any(|worker| plan.can_start_preloaded(worker)), "another disk");
        let native = planned_with("Talos (v1.13.9)", spec(), Accelerator::Kvm).expect("plan");
        assert_eq!(contents(&native), None);
        let mirror = ClusterSpec { image_delivery: ImageDelivery::Mirror, ..spec() };
        let plan = planned_with("Talos (v1.13.9)", mirror, Accelerator::Tcg).expect("plan");
        assert_eq!(contents(&plan), None);
    }

    #[test]
    fn the_node_that_makes_the_disk_is_a_control_plane_whose_kubelet_never_starts() {
        let plan = planned_with("Talos (v1.13.9)", spec(), Accelerator::Tcg).expect("plan");
        let preloading =
            planned_with("Talos (v1.13.9)", plan.preloading_spec(), Accelerator::Tcg).expect("plan");
        let [node] = &preloading.nodes[..] else { panic!("one node") };
        let kubelet = node.config.text_at(&["machine", "kubelet", "image"]);
        assert_eq!(kubelet, Some("lab.local/preload/kubelet:v1.36.3"));
        assert_eq!(preloading.delivery, ImageDelivery::Mirror);
        assert!(plan.can_start_preloaded(node));
    }
}
