//! Values in a machine config: the machine kind, its name and addresses, and the cluster networks.

use ipnet::IpNet;
use lab_model::{node::Kind, yaml::YamlNode};

use super::config::UserConfig;

/// The cluster networks by their usual names, with their keys below `cluster.network`.
const NETWORKS: [(&str, &str); 2] = [("pod", "podSubnets"), ("service", "serviceSubnets")];

/// A network in a machine config document.
#[derive(Clone, Debug)]
pub struct ClusterNetwork<'a> {
    /// "pod" or "service".
    pub name: &'static str,
    /// The network. `None` if the value is invalid.
    pub network: Option<IpNet>,
    /// The value as written.
    pub text: &'a str,
    /// The position of the value.
    pub node: &'a YamlNode,
}

/// Returns the machine kind of a machine config document, as Talos reads `machine.type` (machinery,
/// config/machine/type.go). Returns `None` for a patch without the key.
pub fn machine_kind(config: &YamlNode) -> Option<Kind> {
    match config.text_at(&["machine", "type"])? {
        "controlplane" | "init" => Some(Kind::ControlPlane),
        "worker" | "join" => Some(Kind::Worker),
        _ => None,
    }
}

/// Returns the pod and service networks of a machine config document.
pub fn cluster_networks(config: &YamlNode) -> impl Iterator<Item = ClusterNetwork<'_>> {
    NETWORKS.into_iter().flat_map(|(name, key)| {
        let items = config.items_at(&["cluster", "network", key]).iter();
        items.filter_map(move |node| {
            let text = node.text()?;
            Some(ClusterNetwork { name, network: text.parse().ok(), text, node })
        })
    })
}

/// Returns the host of `https://HOST:PORT`, without the brackets of an IPv6 address.
pub fn endpoint_host(url: &str) -> Option<&str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.rsplit_once(':').map_or(Some(authority), |(host, _)| Some(host)),
    }
}

impl UserConfig {
    /// Returns the text at a path of the main document. Returns `None` if it is empty.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.main()?.text_at(path).filter(|text| !text.is_empty())
    }

    /// Returns the machine kind of the file.
    pub fn machine_kind(&self) -> Option<Kind> {
        machine_kind(self.main()?)
    }

    /// Returns the host name in the file.
    pub fn hostname(&self) -> Option<&str> {
        let own = self.of_kind("HostnameConfig").next().and_then(|document| document.text_at(&["hostname"]));
        own.filter(|name| !name.is_empty()).or_else(|| self.text_at(&["machine", "network", "hostname"]))
    }

    /// Returns the value that enables KubeSpan, a mesh network that requires the discovery service.
    pub fn kubespan(&self) -> Option<&YamlNode> {
        self.documents.iter().find_map(|document| {
            let enabled = match document.kind() {
                None => document.get(&["machine", "network", "kubespan", "enabled"]),
                Some("KubeSpanConfig") => document.get(&["enabled"]),
                Some(_) => None,
            };
            enabled.filter(|node| node.is_true())
        })
    }

    /// Returns the interfaces, in both supported formats.
    fn interfaces(&self) -> impl Iterator<Item = &YamlNode> {
        let main = self.machine_configs();
        let main = main.flat_map(|document| document.items_at(&["machine", "network", "interfaces"]));
        main.chain(self.of_kind("LinkConfig"))
    }

    /// Returns the static addresses of the machine, usually with prefix lengths.
    pub fn static_addresses(&self) -> impl Iterator<Item = &str> {
        let addresses = self.interfaces().flat_map(|interface| interface.items_at(&["addresses"]));
        // Each item is a text, or a mapping with an address.
        addresses.filter_map(|item| item.text().or_else(|| item.text_at(&["address"])))
    }

    /// Returns the shared addresses (VIPs) of the control planes.
    pub fn shared_addresses(&self) -> impl Iterator<Item = &str> {
        let interfaces = self.interfaces().filter_map(|interface| interface.text_at(&["vip", "ip"]));
        let documents = self.of_kind("Layer2VIPConfig").filter_map(|document| document.text_at(&["name"]));
        interfaces.chain(documents)
    }

    /// Returns the gateways of the default routes.
    pub fn gateways(&self) -> impl Iterator<Item = &str> {
        let routes = self.interfaces().flat_map(|interface| interface.items_at(&["routes"]));
        let everywhere = |route: &&YamlNode| {
            let to = route.text_at(&["network"]).or_else(|| route.text_at(&["destination"]));
            matches!(to, None | Some("" | "0.0.0.0/0"))
        };
        routes.filter(everywhere).filter_map(|route| route.text_at(&["gateway"]))
    }
}
