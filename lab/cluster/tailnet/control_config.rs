//! The configuration of the control server as plain data, in the format of headscale v0.27.
//!
//! Sources: headscale's `config-example.yaml`, `hscontrol/types/config.go` and, for the relay map,
//! `tailcfg.DERPMap`. Headscale reads the relay map with lowercase names.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use ipnet::IpNet;
use serde::Serialize;

/// The tag of the cluster's gateway. The policy approves routes for this tag, not for a user.
pub const GATEWAY_TAG: &str = "tag:gateway";

/// Name of the unix socket for headscale's command line, in the private directory.
pub(super) const SOCKET: &str = "headscale.sock";

/// Number of the relay region. The range 900 to 999 is reserved for users' own relays.
const RELAY_REGION: u16 = 900;

/// The protocol between clients and the control server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP. Login works, because its content has its own encryption. Clients do not use the relay
    /// without TLS, so traffic needs a direct path.
    Http,
    /// HTTPS with a certificate from an authority for this server. Every client must trust the authority.
    /// The relay works.
    Https,
}

/// The approval of advertised routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// The `autoApprovers` of the policy approve these routes for [`GATEWAY_TAG`] at login.
    Automatic(Vec<IpNet>),
    /// Routes need a call of [`ControlServer::approve`](super::ControlServer::approve).
    ByCall,
}

/// The configuration of a control server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSpec {
    /// The address at which nodes reach the host's loopback interface: the gateway address of the lab LAN.
    /// Use the loopback address if all clients run on the host.
    pub seen_from_nodes: Ipv4Addr,
    pub transport: Transport,
    pub approval: Approval,
}

/// The chosen ports and directories.
pub(super) struct Placement<'a> {
    /// The listen address.
    pub listen: SocketAddr,
    /// The STUN address, UDP.
    pub stun: SocketAddr,
    /// The private directory for database, keys and socket.
    pub private: &'a Path,
    /// The directory for files without secrets.
    pub public: &'a Path,
}

impl Placement<'_> {
    pub fn policy(&self) -> std::path::PathBuf {
        self.public.join("policy.json")
    }

    pub fn relay_map(&self) -> std::path::PathBuf {
        self.public.join("relays.yaml")
    }

    pub fn certificate(&self) -> std::path::PathBuf {
        self.public.join("control.crt")
    }

    pub fn certificate_key(&self) -> std::path::PathBuf {
        self.private.join("control.key")
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.private.join(SOCKET)
    }
}

impl ControlSpec {
    /// Returns the server URL for nodes, without a trailing slash.
    pub(super) fn url(&self, host: IpAddr, port: u16) -> String {
        let scheme = match self.transport {
            Transport::Http => "http",
            Transport::Https => "https",
        };
        format!("{scheme}://{}", SocketAddr::new(host, port))
    }

    /// Returns headscale's configuration file.
    pub(super) fn config(&self, place: &Placement<'_>) -> Config {
        let private = |name: &str| place.private.join(name).to_string_lossy().into_owned();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        // No client uses these endpoints. Port 0 selects any free port.
        let unused = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let (tls_cert_path, tls_key_path) = match self.transport {
            Transport::Http => (String::new(), String::new()),
            Transport::Https => (text(&place.certificate()), text(&place.certificate_key())),
        };
        Config {
            server_url: self.url(IpAddr::V4(self.seen_from_nodes), place.listen.port()),
            listen_addr: place.listen,
            metrics_listen_addr: unused,
            grpc_listen_addr: unused,
            grpc_allow_insecure: false,
            noise: Noise { private_key_path: private("noise.key") },
            prefixes: Prefixes {
                v4: lab_plan::network::TAILNET.to_string(),
                v6: "fd7a:115c:a1e0::/48",
                allocation: "sequential",
            },
            derp: Derp {
                server: DerpServer {
                    enabled: true,
                    region_id: RELAY_REGION,
                    region_code: "lab",
                    region_name: "lab",
                    verify_clients: true,
                    stun_listen_addr: place.stun,
                    private_key_path: private("relay.key"),
                    automatically_add_embedded_derp_region: false,
                },
                urls: [],
                paths: [text(&place.relay_map())],
                auto_update_enabled: false,
            },
            disable_check_updates: true,
            // Longer than any run, because an ephemeral node must keep its entry when it loses its link.
            ephemeral_node_inactivity_timeout: "30m",
            database: Database { kind: "sqlite", sqlite: Sqlite { path: private("headscale.sqlite") } },
            tls_cert_path,
            tls_key_path,
            log: Log { level: "info", format: "text" },
            policy: PolicyFile { mode: "file", path: text(&place.policy()) },
            dns: Dns {
                magic_dns: false,
                base_domain: "tailnet.internal",
                override_local_dns: false,
                nameservers: Nameservers { global: [] },
            },
            unix_socket: text(&place.socket()),
            unix_socket_permission: "0700",
            logtail: Logtail { enabled: false },
        }
    }

    /// Returns the policy: all nodes may connect to all nodes, and `autoApprovers` approve routes.
    pub(super) fn policy(&self, user: &str) -> Policy {
        let routes = match &self.approval {
            Approval::Automatic(routes) => {
                routes.iter().map(|route| (route.to_string(), vec![GATEWAY_TAG])).collect()
            }
            Approval::ByCall => BTreeMap::new(),
        };
        Policy {
            tag_owners: BTreeMap::from([(GATEWAY_TAG, vec![format!("{user}@")])]),
            acls: [Rule { action: "accept", src: ["*"], dst: ["*:*"] }],
            auto_approvers: AutoApprovers { routes },
        }
    }

    /// Returns the relay map. Its only region is this server. Nodes and the host reach the server at
    /// different addresses, so the map contains each address, and clients try one after the other.
    pub(super) fn relay_map(&self, place: &Placement<'_>) -> RelayMap {
        let mut hosts = vec![Ipv4Addr::LOCALHOST];
        if self.seen_from_nodes != Ipv4Addr::LOCALHOST {
            hosts.push(self.seen_from_nodes);
        }
        let nodes = hosts.into_iter().enumerate().map(|(index, host)| RelayNode {
            name: format!("{RELAY_REGION}{}", if index == 0 { "host" } else { "lan" }),
            region: RELAY_REGION,
            host: host.to_string(),
            ipv4: host,
            ipv6: "none",
            stun_port: place.stun.port(),
            port: place.listen.port(),
        });
        let region = RelayRegion { id: RELAY_REGION, code: "lab", name: "lab", nodes: nodes.collect() };
        RelayMap { regions: BTreeMap::from([(RELAY_REGION, region)]) }
    }
}

/// Headscale's configuration file. The fields are the same as in its example.
#[derive(Serialize)]
pub(super) struct Config {
    server_url: String,
    listen_addr: SocketAddr,
    metrics_listen_addr: SocketAddr,
    grpc_listen_addr: SocketAddr,
    grpc_allow_insecure: bool,
    noise: Noise,
    prefixes: Prefixes,
    derp: Derp,
    disable_check_updates: bool,
    ephemeral_node_inactivity_timeout: &'static str,
    database: Database,
    tls_cert_path: String,
    tls_key_path: String,
    log: Log,
    policy: PolicyFile,
    dns: Dns,
    unix_socket: String,
    unix_socket_permission: &'static str,
    logtail: Logtail,
}

#[derive(Serialize)]
struct Noise {
    private_key_path: String,
}

#[derive(Serialize)]
struct Prefixes {
    v4: String,
    v6: &'static str,
    allocation: &'static str,
}

#[derive(Serialize)]
struct Derp {
    server: DerpServer,
    /// Maps from the internet. Always empty.
    urls: [String; 0],
    paths: [String; 1],
    auto_update_enabled: bool,
}

#[derive(Serialize)]
struct DerpServer {
    enabled: bool,
    region_id: u16,
    region_code: &'static str,
    region_name: &'static str,
    verify_clients: bool,
    stun_listen_addr: SocketAddr,
    private_key_path: String,
    automatically_add_embedded_derp_region: bool,
}

#[derive(Serialize)]
struct Database {
    #[serde(rename = "type")]
    kind: &'static str,
    sqlite: Sqlite,
}

#[derive(Serialize)]
struct Sqlite {
    path: String,
}

#[derive(Serialize)]
struct Log {
    level: &'static str,
    format: &'static str,
}

#[derive(Serialize)]
struct PolicyFile {
    mode: &'static str,
    path: String,
}

#[derive(Serialize)]
struct Dns {
    magic_dns: bool,
    base_domain: &'static str,
    override_local_dns: bool,
    nameservers: Nameservers,
}

#[derive(Serialize)]
struct Nameservers {
    global: [String; 0],
}

#[derive(Serialize)]
struct Logtail {
    enabled: bool,
}

/// The policy file (JSON is valid HuJSON).
#[derive(Serialize)]
pub(super) struct Policy {
    #[serde(rename = "tagOwners")]
    tag_owners: BTreeMap<&'static str, Vec<String>>,
    acls: [Rule; 1],
    #[serde(rename = "autoApprovers")]
    auto_approvers: AutoApprovers,
}

#[derive(Serialize)]
struct Rule {
    action: &'static str,
    src: [&'static str; 1],
    dst: [&'static str; 1],
}

#[derive(Serialize)]
struct AutoApprovers {
    routes: BTreeMap<String, Vec<&'static str>>,
}

/// `tailcfg.DERPMap`.
#[derive(Serialize)]
pub(super) struct RelayMap {
    regions: BTreeMap<u16, RelayRegion>,
}

#[derive(Serialize)]
struct RelayRegion {
    #[serde(rename = "regionid")]
    id: u16,
    #[serde(rename = "regioncode")]
    code: &'static str,
    #[serde(rename = "regionname")]
    name: &'static str,
    nodes: Vec<RelayNode>,
}

#[derive(Serialize)]
struct RelayNode {
    name: String,
    #[serde(rename = "regionid")]
    region: u16,
    #[serde(rename = "hostname")]
    host: String,
    ipv4: Ipv4Addr,
    /// "none" prevents clients from looking up an IPv6 address.
    ipv6: &'static str,
    #[serde(rename = "stunport")]
    stun_port: u16,
    #[serde(rename = "derpport")]
    port: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Placement<'static> {
        Placement {
            listen: "127.0.0.1:8080".parse().unwrap(),
            stun: "127.0.0.1:3478".parse().unwrap(),
            private: Path::new("/private"),
            public: Path::new("/run"),
        }
    }

    fn spec(transport: Transport, approval: Approval) -> ControlSpec {
        ControlSpec { seen_from_nodes: Ipv4Addr::new(10, 5, 0, 1), transport, approval }
    }

    #[test]
    fn everything_listens_on_loopback_and_nothing_asks_the_internet() {
        let config = spec(Transport::Https, Approval::ByCall).config(&place());
        insta::assert_snapshot!(serde_yaml::to_string(&config).unwrap());
    }

    #[test]
    fn the_relay_is_known_by_the_address_of_either_side() {
        let spec = spec(Transport::Http, Approval::ByCall);
        insta::assert_snapshot!(serde_yaml::to_string(&spec.relay_map(&place())).unwrap());
    }

    #[test]
    fn the_policy_approves_what_it_is_told_for_the_gateway_only() {
        let routes = vec!["10.244.0.0/16".parse().unwrap(), "10.96.0.0/12".parse().unwrap()];
        let policy = spec(Transport::Http, Approval::Automatic(routes)).policy("lab");
        insta::assert_snapshot!(serde_json::to_string_pretty(&policy).unwrap());
        let none = spec(Transport::Http, Approval::ByCall).policy("lab");
        assert!(none.auto_approvers.routes.is_empty());
    }
}
