//! Responses of the client's local API.
//!
//! Sources: `ipn/ipnstate` (Status, PeerStatus, PingResult) and `ipn` (Prefs) of tailscale.com.
//! Unknown fields are ignored; lists are `null` when empty.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

/// The status of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClientStatus {
    /// `NoState`, `NeedsLogin`, `NeedsMachineAuth`, `Stopped`, `Starting` or `Running`.
    pub backend_state: String,
    /// Its own addresses in the tailnet.
    #[serde(rename = "TailscaleIPs", deserialize_with = "or_default")]
    pub addresses: Vec<IpAddr>,
    /// Its health warnings; a rejected login appears here.
    #[serde(deserialize_with = "or_default")]
    pub health: Vec<String>,
    /// The client itself.
    #[serde(rename = "Self")]
    pub own: Own,
    /// The other nodes, by their public key.
    #[serde(rename = "Peer", deserialize_with = "or_default")]
    pub peers: BTreeMap<String, Peer>,
}

/// The client, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Own {
    /// Addresses and ports for direct connections from other nodes.
    #[serde(rename = "Addrs", deserialize_with = "or_default")]
    pub endpoints: Vec<String>,
}

/// Another node, as this client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Peer {
    pub host_name: String,
    /// Its addresses in the tailnet.
    #[serde(rename = "TailscaleIPs", deserialize_with = "or_default")]
    pub addresses: Vec<IpAddr>,
    /// Allowed destinations: its own addresses and its approved routes.
    #[serde(rename = "AllowedIPs", deserialize_with = "or_default")]
    pub allowed: Vec<IpNet>,
    /// Routes for which the control server selected it.
    #[serde(deserialize_with = "or_default")]
    pub primary_routes: Vec<IpNet>,
    /// Whether it is connected to the control server.
    pub online: bool,
    /// Its UDP address in use; empty without a direct path.
    #[serde(rename = "CurAddr")]
    pub direct: String,
    /// The code of its home relay; empty without one.
    pub relay: String,
}

/// The preferences of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Preferences {
    /// Whether it uses routes of other nodes (`--accept-routes`).
    #[serde(rename = "RouteAll")]
    pub accept_routes: bool,
    /// Routes that it advertises.
    #[serde(deserialize_with = "or_default")]
    pub advertise_routes: Vec<IpNet>,
}

/// The response to a ping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// Host name of the node that responded.
    pub node: String,
    /// The round-trip time.
    pub latency: Duration,
    /// The path of the ping.
    pub path: Path,
}

/// The path of a packet between two nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// UDP from node to node, to this address.
    Direct(String),
    /// Through a relay (DERP), by the code of its region.
    Relay(String),
    /// This kind of ping does not report the path.
    Unknown,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => write!(f, "direct to {address}"),
            Self::Relay(region) => write!(f, "through the relay \"{region}\""),
            Self::Unknown => f.write_str("by an unknown path"),
        }
    }
}

/// `ipnstate.PingResult`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PingResult {
    pub err: String,
    pub node_name: String,
    pub latency_seconds: f64,
    pub endpoint: String,
    #[serde(rename = "DERPRegionCode")]
    pub relay: String,
}

impl PingResult {
    /// The pong, or the reason why there is none.
    pub fn pong(self) -> Result<Pong, String> {
        if !self.err.is_empty() {
            return Err(self.err);
        }
        let latency = Duration::try_from_secs_f64(self.latency_seconds).map_err(|e| e.to_string())?;
        let path = match (self.endpoint.is_empty(), self.relay.is_empty()) {
            (false, _) => Path::Direct(self.endpoint),
            (true, false) => Path::Relay(self.relay),
            (true, true) => Path::Unknown,
        };
        Ok(Pong { node: self.node_name, latency, path })
    }
}

impl ClientStatus {
    /// Whether it is logged in and has a map of the tailnet.
    pub fn is_running(&self) -> bool {
        self.backend_state == "Running"
    }

    /// The peer with this host name.
    pub fn peer(&self, host_name: &str) -> Option<&Peer> {
        self.peers.values().find(|peer| peer.host_name == host_name)
    }

    /// Whether packets for each of `prefixes` go to some peer.
    pub fn routes_all(&self, prefixes: &[IpNet]) -> bool {
        prefixes.iter().all(|prefix| self.router_of(*prefix).is_some())
    }

    /// The peer that receives packets for `prefix`.
    pub fn router_of(&self, prefix: IpNet) -> Option<&Peer> {
        self.peers.values().find(|peer| peer.allowed.contains(&prefix))
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_nulls_and_unknown_fields() {
        let status: ClientStatus = serde_json::from_str(
            r#"{"Version": "1.90.6", "TUN": false, "BackendState": "Running", "TailscaleIPs": ["100.64.0.2"],
                "Self": {"HostName": "outside"}, "Health": null, "Peer": {"nodekey:00": {"HostName": "gateway",
                "TailscaleIPs": ["100.64.0.1"], "AllowedIPs": ["100.64.0.1/32", "10.244.0.0/16"],
                "PrimaryRoutes": ["10.244.0.0/16"], "CurAddr": "", "Relay": "lab", "Online": true}}}"#,
        )
        .unwrap();
        assert!(status.is_running() && status.health.is_empty());
        let router = status.router_of("10.244.0.0/16".parse().unwrap()).unwrap();
        assert_eq!((router.host_name.as_str(), router.online), ("gateway", true));
        assert_eq!(status.router_of("10.96.0.0/12".parse().unwrap()), None);
        let fresh: ClientStatus =
            serde_json::from_str(r#"{"BackendState": "NeedsLogin", "TailscaleIPs": null, "Peer": null}"#)
                .unwrap();
        assert!(!fresh.is_running() && fresh.peers.is_empty());
    }

    #[test]
    fn a_ping_tells_its_path_or_its_failure() {
        let pong = |json: &str| serde_json::from_str::<PingResult>(json).unwrap().pong();
        let direct = r#"{"NodeName": "gateway", "LatencySeconds": 0.077, "Endpoint": "127.0.0.1:41641"}"#;
        assert_eq!(pong(direct).unwrap().path, Path::Direct("127.0.0.1:41641".into()));
        assert_eq!(pong(direct).unwrap().latency.as_millis(), 77);
        let relayed =
            r#"{"NodeName": "gateway", "LatencySeconds": 0.1, "DERPRegionID": 900, "DERPRegionCode": "lab"}"#;
        assert_eq!(pong(relayed).unwrap().path.to_string(), "through the relay \"lab\"");
        assert_eq!(pong(r#"{"Err": "no matching peer"}"#).unwrap_err(), "no matching peer");
    }
}
