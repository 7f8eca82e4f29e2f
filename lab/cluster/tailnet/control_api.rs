//! Responses of headscale's command line (`-o json`): users, keys, nodes and routes.
//!
//! Source: the messages in headscale's `proto/headscale/v1`. Go writes them with protocol field names and
//! omits empty fields. Unknown fields are ignored. This also drops the pre-auth key, which headscale
//! repeats in each node.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A user of the control server. A user owns keys and nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Number in headscale's database.
    pub id: u64,
    pub name: String,
}

/// The options of a pre-auth key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOptions {
    /// Allows more than one node to use the key.
    pub reusable: bool,
    /// Headscale deletes the nodes of the key some time after they disconnect.
    pub ephemeral: bool,
    /// Validity period. Zero creates an expired key.
    pub valid: Duration,
    /// Tags for the nodes of the key, e.g. [`GATEWAY_TAG`](super::GATEWAY_TAG).
    pub tags: Vec<String>,
}

impl Default for KeyOptions {
    /// A key for one ordinary node, valid for one hour.
    fn default() -> Self {
        Self { reusable: false, ephemeral: false, valid: Duration::from_secs(3600), tags: Vec::new() }
    }
}

/// A new key. The control server returns it only once. Has no `Debug`, so that logs cannot contain it.
#[derive(Deserialize)]
pub(super) struct IssuedKey {
    pub key: String,
}

/// A node in the control server's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailnetNode {
    /// Number in headscale's database.
    pub id: u64,
    /// The host name that the node reported.
    #[serde(default)]
    pub name: String,
    /// Addresses in the tailnet.
    #[serde(default, rename = "ip_addresses")]
    pub addresses: Vec<IpAddr>,
    /// Whether it is connected to the control server.
    #[serde(default)]
    pub online: bool,
    /// Valid tags.
    #[serde(default, rename = "valid_tags")]
    pub tags: Vec<String>,
    /// Tags that the control server assigned.
    #[serde(default)]
    pub forced_tags: Vec<String>,
    /// Routes that the node advertises.
    #[serde(default, rename = "available_routes")]
    pub advertised: Vec<IpNet>,
    /// Routes that the control server has approved for the node.
    #[serde(default, rename = "approved_routes")]
    pub approved: Vec<IpNet>,
    /// Routes that the control server sends through this node: advertised, approved, and not assigned to
    /// another node.
    #[serde(default, rename = "subnet_routes")]
    pub primary: Vec<IpNet>,
}

impl TailnetNode {
    /// Returns the address in the tailnet, IPv4 if available.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.iter().find(|address| address.is_ipv4()).or(self.addresses.first()).copied()
    }

    /// Reports whether the node has `tag`.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().chain(&self.forced_tags).any(|own| own == tag)
    }
}

/// Parses a list of nodes. An empty list is `null`.
pub(super) fn nodes(json: &str) -> Result<Vec<TailnetNode>, serde_json::Error> {
    Ok(serde_json::from_str::<Option<Vec<TailnetNode>>>(json)?.unwrap_or_default())
}

/// Extracts the message of an error in JSON.
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
