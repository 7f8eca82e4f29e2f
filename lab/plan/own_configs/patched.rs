//! A config of the user with the user's patches: what it says then, and where the file says it.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use lab_model::{Diagnostic, Position};

use super::file::OwnFile;
use crate::{
    config::MachineConfig,
    user_config::{UserConfig, cluster_networks},
};

/// A config with the user's patches.
pub(super) struct PatchedConfig {
    /// As it is written; positions are of this file.
    written: UserConfig,
    /// What it says with the patches.
    pub says: UserConfig,
}

/// Where a config names the control plane.
pub(super) const ENDPOINT: [&str; 3] = ["cluster", "controlPlane", "endpoint"];
/// What a file should be.
const HELP: &str =
    "give the output of talosctl gen config, or a file that talm rendered; a patch goes under patches";

impl PatchedConfig {
    /// Reads a file and applies patches. A patch that cannot be applied is left to the plan, which reports it.
    pub fn read(file: &OwnFile, patches: &[&str]) -> Result<Self, Box<Diagnostic>> {
        let refused = |message: String| {
            Box::new(Diagnostic::at(&Position::START, message).in_file(&file.origin).help(HELP))
        };
        let written =
            UserConfig::parse(&file.origin, &file.text).map_err(|error| Box::new(error.help(HELP)))?;
        let mut config = MachineConfig::as_written(&file.text).map_err(|error| refused(error.to_string()))?;
        if config.main().is_none_or(|main| main.get("machine").is_none() || main.get("cluster").is_none()) {
            return Err(refused("it has no document with machine: and cluster:".into()));
        }
        for patch in patches {
            if let Ok(patched) = config.clone().patch([*patch]) {
                config = patched;
            }
        }
        let text = config.to_yaml().map_err(|error| refused(error.to_string()))?;
        let says = UserConfig::parse(&file.origin, text).map_err(|error| refused(error.message))?;
        Ok(Self { written, says })
    }

    /// The first IPv4 network for "pod" or "service" addresses.
    pub fn network(&self, name: &str) -> Option<Ipv4Net> {
        cluster_networks(self.says.main()?).filter(|network| network.name == name).find_map(|network| {
            match network.network {
                Some(IpNet::V4(network)) => Some(network),
                _ => None,
            }
        })
    }

    /// The first IPv4 address that the file gives its machine.
    pub fn static_address(&self) -> Option<Ipv4Net> {
        let parsed = self.says.static_addresses().filter_map(|text| {
            text.parse::<Ipv4Net>().ok().or_else(|| Some(Ipv4Net::from(text.parse::<Ipv4Addr>().ok()?)))
        });
        parsed.into_iter().find(|net| !net.addr().is_loopback())
    }

    /// The IPv4 addresses that control planes share.
    pub fn shared_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.says.shared_addresses().filter_map(|text| text.parse().ok())
    }

    /// The IPv4 gateways of the default routes.
    pub fn gateways(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.says.gateways().filter_map(|text| text.parse().ok())
    }

    /// An error at a path of the main document.
    pub fn refused(&self, path: &[&str], message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        self.refused_at(self.written.position(path), message, help)
    }

    /// An error at a value of the file.
    pub fn refused_value(
        &self,
        value: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        self.refused_at(self.written.position_of(value), message, help)
    }

    fn refused_at(
        &self,
        position: Position,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::at(&position, message).in_file(&self.written.name).help(help)
    }
}
