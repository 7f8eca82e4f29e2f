//! What headscale's command line answers (`-o json`): users, keys, nodes and their routes.
//!
//! Source: the messages in headscale's `proto/headscale/v1`, which Go writes with the names of the
//! protocol and leaves empty fields out. Unknown fields are ignored; that also keeps the pre-auth
//! key, which headscale repeats inside each node, out of these types.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A user of the control server, who owns keys and nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// What a pre-auth key may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOptions {
    /// More than one node may use it.
    pub reusable: bool,
    /// Its nodes are forgotten some time after they leave.
    pub ephemeral: bool,
    /// How long it can be used. Zero: not at all, an expired key.
    pub valid: Duration,
    /// Tags of its nodes, e.g. [`GATEWAY_TAG`](super::GATEWAY_TAG).
    pub tags: Vec<String>,
}

impl Default for KeyOptions {
    /// For one ordinary node, within the hour.
    fn default() -> Self {
        Self { reusable: false, ephemeral: false, valid: Duration::from_secs(3600), tags: Vec::new() }
    }
}

/// A key as the control server tells it once. Not printable.
#[derive(Deserialize)]
pub(super) struct IssuedKey {
    pub key: String,
}

/// A node as the control server knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailnetNode {
    /// Its number.
    pub id: u64,
    /// The host name it gave.
    #[serde(default)]
    pub name: String,
    /// Its addresses in the tailnet.
    #[serde(default, rename = "ip_addresses")]
    pub addresses: Vec<IpAddr>,
    /// Whether it is connected to the control server.
    #[serde(default)]
    pub online: bool,
    /// Tags that hold.
    #[serde(default, rename = "valid_tags")]
    pub tags: Vec<String>,
    /// Tags that it got from the control server.
    #[serde(default)]
    pub forced_tags: Vec<String>,
    /// Routes that it offers.
    #[serde(default, rename = "available_routes")]
    pub advertised: Vec<IpNet>,
    /// Routes that it may offer.
    #[serde(default, rename = "approved_routes")]
    pub approved: Vec<IpNet>,
    /// Routes that the control server sends through it: approved, advertised, and no other node
    /// was chosen.
    #[serde(default, rename = "subnet_routes")]
    pub primary: Vec<IpNet>,
}

impl TailnetNode {
    /// Its address in the tailnet, IPv4 if it has one.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.iter().find(|address| address.is_ipv4()).or(self.addresses.first()).copied()
    }

    /// Whether it bears `tag`.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().chain(&self.forced_tags).any(|own| own == tag)
    }
}

/// Reads a list, which is `null` when empty.
pub(super) fn nodes(json: &str) -> Result<Vec<TailnetNode>, serde_json::Error> {
    Ok(serde_json::from_str::<Option<Vec<TailnetNode>>>(json)?.unwrap_or_default())
}

/// What an error says in JSON.
pub(super) fn error_text(output: &str) -> String {
    #[derive(Deserialize)]
    struct Failure {
        error: String,
    }
    serde_json::from_str::<Failure>(output)
        .map_or_else(|_| super::daemon::tail(output), |failure| failure.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_read_and_the_key_inside_them_is_not() {
        let json = r#"[{"id": 1, "machine_key": "mkey:0", "name": "gateway", "ip_addresses": ["fd7a:115c:a1e0::1", "100.64.0.1"],
            "user": {"id": 1, "name": "lab"}, "pre_auth_key": {"key": "planted-key", "id": 1}, "online": true,
            "last_seen": {"seconds": 1}, "forced_tags": ["tag:gateway"], "register_method": 1, "invented_later": {},
            "available_routes": ["10.96.0.0/12", "10.244.0.0/16"], "approved_routes": ["10.244.0.0/16"], "subnet_routes": ["10.244.0.0/16"]},
            {"id": 2}]"#;
        let nodes = nodes(json).unwrap();
        assert_eq!(nodes[0].address(), Some("100.64.0.1".parse().unwrap()));
        assert!(nodes[0].has_tag("tag:gateway") && !nodes[1].has_tag("tag:gateway"));
        assert_eq!((nodes[0].advertised.len(), nodes[0].approved.len(), nodes[1].primary.len()), (2, 1, 0));
        assert!(!format!("{nodes:?}").contains("planted"));
        assert_eq!(super::nodes("null").unwrap(), []);
    }

    #[test]
    fn an_error_is_read_from_json_and_from_plain_text() {
        assert_eq!(error_text("{\n\t\"error\": \"no such user\"\n}\n"), "no such user");
        assert_eq!(error_text("FTL cannot connect\n"), "FTL cannot connect");
    }
}
