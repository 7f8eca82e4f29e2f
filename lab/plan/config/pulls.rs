//! The container images that a node pulls without any user workload.
//!
//! Sources: a machine config contains the images of its components. Omitted images have the default of
//! the Talos version (pkg/machinery/constants of v1.11.5 and v1.13.9: `DefaultEtcdVersion`, `EtcdImage`,
//! `DefaultCoreDNSVersion`, `CoreDNSImage`, `FlannelVersion`). The sandbox image was observed in pulls of
//! v1.11.5. No different image is known for v1.13.

use lab_model::node::Kind;
use serde_json::Value;

use super::{cluster_config::TalosContract, documents::MachineConfig};

/// The software of a node, as far as it affects image pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeSoftware {
    /// Talos: each Kubernetes component is a container image.
    Talos,
    /// The reference node: the node image contains the components.
    Reference,
}

/// The sandbox image of every pod.
const PAUSE: &str = "registry.k8s.io/pause:3.10";

struct Defaults {
    etcd: &'static str,
    coredns: &'static str,
    flannel: &'static str,
}

const fn defaults(contract: TalosContract) -> Defaults {
    match contract {
        TalosContract::V1_11 => Defaults {
            etcd: "gcr.io/etcd-development/etcd:v3.6.5",
            coredns: "registry.k8s.io/coredns/coredns:v1.12.4",
            flannel: "ghcr.io/siderolabs/flannel:v0.27.4",
        },
        TalosContract::V1_12 | TalosContract::V1_13 => Defaults {
            etcd: "registry.k8s.io/etcd:v3.6.12",
            coredns: "registry.k8s.io/coredns/coredns:v1.14.6",
            flannel: "ghcr.io/siderolabs/flannel:0.28.8",
        },
    }
}

/// Returns the images that a node with this config pulls, in the order of use.
pub fn pulled_images(
    config: &MachineConfig,
    kind: Kind,
    software: NodeSoftware,
    contract: TalosContract,
) -> Vec<String> {
    let value = |path: &str| config.documents().iter().find_map(|document| document.pointer(path));
    let off = |path: &str| value(path).and_then(Value::as_bool) == Some(true);
    let image = |path: &str, default: Option<&str>| {
        value(path).and_then(Value::as_str).or(default).map(str::to_owned)
    };
    // The reference node parses configs with the newest machinery, for every contract.
    let defaults = match software {
        NodeSoftware::Talos => defaults(contract),
        NodeSoftware::Reference => defaults(TalosContract::V1_13),
    };
    let controls = kind == Kind::ControlPlane;
    let talos = software == NodeSoftware::Talos;
    let flannel =
        matches!(value("/cluster/network/cni/name").and_then(Value::as_str), None | Some("flannel"));
    let wanted = [
        (talos, image("/machine/kubelet/image", None)),
        (talos && controls, image("/cluster/etcd/image", Some(defaults.etcd))),
        (talos && controls, image("/cluster/apiServer/image", None)),
        (talos && controls, image("/cluster/controllerManager/image", None)),
        (talos && controls, image("/cluster/scheduler/image", None)),
        (true, Some(PAUSE.to_owned())),
        (talos && controls && !off("/cluster/proxy/disabled"), image("/cluster/proxy/image", None)),
        (talos && controls && flannel, Some(defaults.flannel.to_owned())),
        (
            controls && !off("/cluster/coreDNS/disabled"),
            image("/cluster/coreDNS/image", Some(defaults.coredns)),
        ),
    ];
    wanted.into_iter().filter_map(|(wanted, image)| image.filter(|_| wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> MachineConfig {
        MachineConfig::from_yaml(text).expect("config")
    }

    #[test]
    fn talos_pulls_its_components_and_the_reference_node_does_not() {
        let text = "machine: {kubelet: {image: k}}\ncluster: {apiServer: {image: a}, controllerManager: {image: c}, \
                    scheduler: {image: s}, proxy: {image: p}}";
        let pulled = |kind, software| pulled_images(&config(text), kind, software, TalosContract::V1_11);
        let talos = pulled(Kind::ControlPlane, NodeSoftware::Talos);
        assert_eq!(talos[..5], ["k", "gcr.io/etcd-development/etcd:v3.6.5", "a", "c", "s"]);
        assert_eq!(talos[5..7], [PAUSE, "p"]);
        assert_eq!(pulled(Kind::Worker, NodeSoftware::Talos), ["k", PAUSE]);
        let reference = pulled(Kind::ControlPlane, NodeSoftware::Reference);
        assert_eq!(reference, [PAUSE, "registry.k8s.io/coredns/coredns:v1.14.6"]);
    }

    #[test]
    fn what_a_config_switches_off_is_not_pulled() {
        let text = "cluster: {proxy: {image: p, disabled: true}, coreDNS: {disabled: true}, network: {cni: {name: none}}, \
                    etcd: {image: e}}";
        let pulled =
            pulled_images(&config(text), Kind::ControlPlane, NodeSoftware::Talos, TalosContract::V1_13);
        assert_eq!(pulled, ["e", PAUSE]);
    }
}
