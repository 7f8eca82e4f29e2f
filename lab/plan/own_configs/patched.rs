//! A user's config with the user's patches: the effective values, and their positions in the file.

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
    /// The file as written. Positions refer to this file.
    written: UserConfig,
    /// The config after the patches.
    pub says: UserConfig,
}

/// The path of the control plane endpoint in a config.
pub(super) const ENDPOINT: [&str; 3] = ["cluster", "controlPlane", "endpoint"];
/// The help text for an invalid file.
const HELP: &str =
    "give the output of talosctl gen config, or a file that talm rendered; a patch goes under patches";

impl PatchedConfig {
    /// Reads a file and applies patches. Skips a patch that cannot be applied; the plan reports it.
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

    /// Returns the first IPv4 network for "pod" or "service" addresses.
    pub fn network(&self, name: &str) -> Option<Ipv4Net> {
        cluster_networks(self.says.main()?).filter(|network| network.name == name).find_map(|network| {
            match network.network {
                Some(IpNet::V4(network)) => Some(network),
                _ => None,
            }
        })
    }

    /// Returns the first static IPv4 address of the machine.
    pub fn static_address(&self) -> Option<Ipv4Net> {
        let parsed = self.says.static_addresses().filter_map(|text| {
            text.parse::<Ipv4Net>().ok().or_else(|| Some(Ipv4Net::from(text.parse::<Ipv4Addr>().ok()?)))
        });
        parsed.into_iter().find(|net| !net.addr().is_loopback())
    }

    /// Returns the shared IPv4 addresses of the control planes.
    pub fn shared_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.says.shared_addresses().filter_map(|text| text.parse().ok())
    }

    /// Returns the IPv4 gateways of the default routes.
    pub fn gateways(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.says.gateways().filter_map(|text| text.parse().ok())
    }

    /// Creates an error at a path of the main document.
    pub fn refused(&self, path: &[&str], message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        self.refused_at(self.written.position(path), message, help)
    }

    /// Creates an error at a value of the file.
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
