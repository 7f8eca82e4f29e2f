//! The container images that a node pulls without any user workload.
//!
//! A machine config contains the images of its components. For omitted images, Talos uses the images of its
//! release ([`TalosRelease::images`]).

use lab_model::node::Kind;
use serde_json::Value;

use super::{documents::MachineConfig, release::TalosRelease};

/// The software of a node, as far as it affects image pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeSoftware {
    /// Talos: each Kubernetes component is a container image.
    Talos(TalosRelease),
    /// The reference node: the node image contains the components.
    Reference,
}

/// The images of the reference node: it reads configs with the machinery library of Talos v1.13.9 (CoreDNS),
/// and configures containerd itself (pause).
const REFERENCE_COREDNS: &str = "registry.k8s.io/coredns/coredns:v1.14.6";
const REFERENCE_PAUSE: &str = "registry.k8s.io/pause:3.10";

/// Returns the images that a node with this config pulls, in the order of use.
pub fn pulled_images(config: &MachineConfig, kind: Kind, software: &NodeSoftware) -> Vec<String> {
    let wanted = Wanted { config, controls: kind == Kind::ControlPlane };
    match software {
        NodeSoftware::Talos(release) => {
            wanted.of_services(release).into_iter().chain(wanted.of_pods(release)).collect()
        }
        NodeSoftware::Reference => std::iter::once(REFERENCE_PAUSE.to_owned())
            .chain(wanted.coredns(|| REFERENCE_COREDNS.to_owned()))
            .collect(),
    }
}

/// Returns those of the images that the node's own services run, outside of pods. Talos pulls them in containerd's namespace
/// `system` (`internal/app/machined/pkg/system/services/{kubelet,etcd}.go`).
pub fn system_images(config: &MachineConfig, kind: Kind, software: &NodeSoftware) -> Vec<String> {
    match software {
        NodeSoftware::Talos(release) => {
            Wanted { config, controls: kind == Kind::ControlPlane }.of_services(release)
        }
        NodeSoftware::Reference => Vec::new(),
    }
}

/// What a config says of images.
struct Wanted<'a> {
    config: &'a MachineConfig,
    /// Whether the node is a control plane.
    controls: bool,
}

impl Wanted<'_> {
    fn value(&self, path: &str) -> Option<&Value> {
        self.config.documents().iter().find_map(|document| document.pointer(path))
    }

    fn off(&self, path: &str) -> bool {
        self.value(path).and_then(Value::as_bool) == Some(true)
    }

    fn image(&self, path: &str, default: impl FnOnce() -> String) -> String {
        let image = self.value(path).and_then(Value::as_str).filter(|image| !image.is_empty());
        image.map_or_else(default, str::to_owned)
    }

    fn coredns(&self, default: impl FnOnce() -> String) -> Option<String> {
        let wanted = self.controls && !self.off("/cluster/coreDNS/disabled");
        wanted.then(|| self.image("/cluster/coreDNS/image", default))
    }

    fn of_services(&self, release: &TalosRelease) -> Vec<String> {
        let images = release.images();
        let kubelet = self.image("/machine/kubelet/image", || images.kubelet());
        let etcd = || self.image("/cluster/etcd/image", || images.etcd.to_owned());
        std::iter::once(kubelet).chain(self.controls.then(etcd)).collect()
    }

    fn of_pods(&self, release: &TalosRelease) -> Vec<String> {
        let release = release.images();
        let component =
            |key: &str, name: &str| self.image(&format!("/cluster/{key}/image"), || release.component(name));
        if !self.controls {
            return vec![release.pause()];
        }
        let mut images = vec![
            component("apiServer", "kube-apiserver"),
            component("controllerManager", "kube-controller-manager"),
            component("scheduler", "kube-scheduler"),
            release.pause(),
        ];
        if !self.off("/cluster/proxy/disabled") {
            images.push(component("proxy", "kube-proxy"));
        }
        let plugin = self.value("/cluster/network/cni/name").and_then(Value::as_str);
        if matches!(plugin, None | Some("flannel")) {
            images.push(release.flannel());
        }
        images.extend(self.coredns(|| release.coredns()));
        images
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> MachineConfig {
        MachineConfig::from_yaml(text).expect("config")
    }

    fn talos(release: &str) -> NodeSoftware {
        NodeSoftware::Talos(release.parse().expect("release"))
    }

    #[test]
    fn talos_pulls_its_components_and_the_reference_node_does_not() {
        let text = "machine: {kubelet: {image: k}}\ncluster: {apiServer: {image: a}, controllerManager: {image: c}, \
                    scheduler: {image: s}, proxy: {image: p}}";
        let pulled = |kind, software| pulled_images(&config(text), kind, &software);
        let images = pulled(Kind::ControlPlane, talos("v1.11.5"));
        assert_eq!(images[..5], ["k", "gcr.io/etcd-development/etcd:v3.6.5", "a", "c", "s"]);
        assert_eq!(images[5..7], ["registry.k8s.io/pause:3.10", "p"]);
        assert_eq!(pulled(Kind::Worker, talos("v1.11.5")), ["k", "registry.k8s.io/pause:3.10"]);
        assert_eq!(pulled(Kind::Worker, talos("v1.13.9")), ["k", "registry.k8s.io/pause:3.10.1"]);
        let reference = pulled(Kind::ControlPlane, NodeSoftware::Reference);
        assert_eq!(reference, [REFERENCE_PAUSE, REFERENCE_COREDNS]);
    }

    #[test]
    fn what_a_config_switches_off_is_not_pulled() {
        let text = "machine: {kubelet: {image: k}}\ncluster: {proxy: {image: p, disabled: true}, \
                    coreDNS: {disabled: true}, network: {cni: {name: none}}, etcd: {image: e}, \
                    apiServer: {image: a}, controllerManager: {image: c}, scheduler: {image: s}}";
        let pulled = pulled_images(&config(text), Kind::ControlPlane, &talos("v1.13.9"));
        assert_eq!(pulled, ["k", "e", "a", "c", "s", "registry.k8s.io/pause:3.10.1"]);
    }

    #[test]
    fn a_config_without_images_has_those_of_the_release() {
        let pulled =
            pulled_images(&config("machine: {}\ncluster: {}"), Kind::ControlPlane, &talos("v1.13.9"));
        assert_eq!(
            pulled,
            [
                "ghcr.io/siderolabs/kubelet:v1.36.3",
                "registry.k8s.io/etcd:v3.6.12",
                "registry.k8s.io/kube-apiserver:v1.36.3",
                "registry.k8s.io/kube-controller-manager:v1.36.3",
                "registry.k8s.io/kube-scheduler:v1.36.3",
                "registry.k8s.io/pause:3.10.1",
                "registry.k8s.io/kube-proxy:v1.36.3",
                "ghcr.io/siderolabs/flannel:0.28.8",
                "registry.k8s.io/coredns/coredns:v1.14.6",
            ]
        );
    }
}
