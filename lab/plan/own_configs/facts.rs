//! What one config says, with its own patches laid over it, and where.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use lab_model::{
    node::Kind,
    yaml::{self, Node, Place},
};
use serde_json::Value;

use super::file::{OwnFile, Refusal};
use crate::config::MachineConfig;

/// What a config says.
pub(super) struct Facts<'a> {
    file: &'a OwnFile,
    /// With the user's patches.
    pub config: MachineConfig,
    documents: Vec<Node>,
}

/// The beginning of a file.
const TOP: Place = Place { line: 1, column: 1 };

impl<'a> Facts<'a> {
    /// Reads a file and lays patches over it; one that cannot be applied is left to the plan, which says so.
    pub fn read(file: &'a OwnFile, patches: &[&str]) -> Result<Self, Refusal> {
        let refusal = |place, message: String| {
            Refusal {
            file: file.origin.clone(),
            place,
            message,
            help: "give the output of talosctl gen config, or a file that talm rendered; a patch goes under patches"
                .into(),
        }
        };
        let documents = yaml::documents(&file.text).map_err(|error| refusal(error.place, error.message))?;
        let mut config =
            MachineConfig::from_yaml(&file.text).map_err(|error| refusal(TOP, error.to_string()))?;
        if config.main().is_none_or(|main| main.get("machine").is_none() || main.get("cluster").is_none()) {
            return Err(refusal(TOP, "it has no document with machine: and cluster:".into()));
        }
        for patch in patches {
            if let Ok(patched) = config.clone().patch([*patch]) {
                config = patched;
            }
        }
        Ok(Self { file, config, documents })
    }

    /// The value at a JSON pointer of the main document.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.config.main()?.pointer(pointer)
    }

    /// The first text of a list at a JSON pointer that is an IPv4 network.
    pub fn network(&self, pointer: &str) -> Option<Ipv4Net> {
        let list = self.at(pointer)?.as_array()?;
        list.iter().find_map(|item| item.as_str()?.parse().ok())
    }

    /// What the machine is for.
    pub fn kind(&self) -> Option<Kind> {
        match self.config.text_at(&["machine", "type"])? {
            "controlplane" | "init" => Some(Kind::ControlPlane),
            "worker" | "join" => Some(Kind::Worker),
            _ => None,
        }
    }

    /// Whether it joins a mesh whose members find each other by the discovery service.
    pub fn has_kubespan(&self) -> bool {
        let document = self.config.of_kind("KubeSpanConfig").and_then(|document| document.get("enabled"));
        let on = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
        on(document) || on(self.at("/machine/network/kubespan/enabled"))
    }

    /// The interfaces as they are written in either form.
    fn interfaces(&self) -> impl Iterator<Item = &Value> {
        let main = self.at("/machine/network/interfaces").and_then(Value::as_array).into_iter().flatten();
        let links = self.config.documents().iter();
        main.chain(links.filter(|document| document.get("kind").is_some_and(|kind| kind == "LinkConfig")))
    }

    /// The first IPv4 address that the file gives its machine.
    pub fn static_address(&self) -> Option<Ipv4Net> {
        let of = |interface: &Value| {
            let list = interface.get("addresses").and_then(Value::as_array)?;
            // A text, or a mapping with one.
            let texts =
                list.iter().filter_map(|item| item.as_str().or_else(|| item.get("address")?.as_str()));
            let parsed = texts.filter_map(|text| {
                text.parse::<Ipv4Net>().ok().or_else(|| Some(Ipv4Net::from(text.parse::<Ipv4Addr>().ok()?)))
            });
            parsed.into_iter().find(|net| !net.addr().is_loopback())
        };
        self.interfaces().find_map(of)
    }

    /// Addresses that control planes share.
    pub fn shared_addresses(&self) -> Vec<Ipv4Addr> {
        let interfaces = self.interfaces().filter_map(|interface| interface.pointer("/vip/ip"));
        let documents = self.config.documents().iter();
        let documents = documents
            .filter(|document| document.get("kind").is_some_and(|kind| kind == "Layer2VIPConfig"))
            .filter_map(|document| document.get("name"));
        interfaces.chain(documents).filter_map(|text| text.as_str()?.parse().ok()).collect()
    }

    /// The gateways of its default routes.
    pub fn gateways(&self) -> Vec<Ipv4Addr> {
        let routes = self.interfaces().filter_map(|interface| interface.get("routes")?.as_array()).flatten();
        let everywhere = |route: &&Value| {
            let to = route.get("network").or_else(|| route.get("destination")).and_then(Value::as_str);
            matches!(to, None | Some("" | "0.0.0.0/0"))
        };
        let gateways = routes.filter(everywhere).filter_map(|route| route.get("gateway")?.as_str());
        gateways.filter_map(|text| text.parse().ok()).collect()
    }

    /// Where a path of the main document stands in the file, or the nearest key above it.
    pub fn place(&self, path: &[&str]) -> Place {
        let Some(mut node) = self.documents.iter().find(|document| document.kind().is_none()) else {
            return TOP;
        };
        let mut place = node.place;
        for key in path {
            let Some(entry) = node.entries().iter().find(|entry| entry.key == *key) else { break };
            (place, node) = (entry.place, &entry.node);
        }
        place
    }

    /// Where a value stands in the file, whatever its key; behind an address may be its prefix length.
    pub fn place_of(&self, text: &str) -> Place {
        let mut found = None;
        for document in &self.documents {
            document.each_scalar(&mut |_, node| {
                let own = node.text().map(|own| own.split('/').next().unwrap_or(own));
                if found.is_none() && own == Some(text) {
                    found = Some(node.place);
                }
            });
        }
        found.unwrap_or(TOP)
    }

    /// A refusal of what stands at a place.
    pub fn refusal(&self, place: Place, message: impl Into<String>, help: impl Into<String>) -> Refusal {
        Refusal { file: self.file.origin.clone(), place, message: message.into(), help: help.into() }
    }
}
