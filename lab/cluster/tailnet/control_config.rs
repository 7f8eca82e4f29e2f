//! The control server's configuration as plain data: what headscale v0.27 reads.
//!
//! Sources: headscale's `config-example.yaml`, `hscontrol/types/config.go` and, for the relay map,
//! `tailcfg.DERPMap`, which headscale reads with all names in lower case.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use ipnet::IpNet;
use serde::Serialize;

/// The tag of the cluster's gateway. Routes are approved for it, not for a user.
pub const GATEWAY_TAG: &str = "tag:gateway";

/// Name of the unix socket of headscale's command line, in the private directory.
pub(super) const SOCKET: &str = "headscale.sock";

/// Number of the relay region; 900 to 999 are for users' own relays.
const RELAY_REGION: u16 = 900;

/// How the control server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain HTTP: login needs nothing else (its content is encrypted by itself). Clients refuse to
    /// use the relay without TLS, so traffic needs a direct path.
    Http,
    /// HTTPS with a certificate of an authority made for this server, which every client must
    /// trust. The relay works.
    Https,
}

/// How advertised routes come to be approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// The policy's `autoApprovers` approve these for [`GATEWAY_TAG`], at login.
    Automatic(Vec<IpNet>),
    /// Nothing is approved until [`ControlServer::approve`](super::ControlServer::approve).
    ByCall,
}

/// What kind of control server is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSpec {
    /// Where nodes reach the host's loopback: the lab LAN's gateway address. Loopback itself when
    /// all clients run on the host.
    pub seen_from_nodes: Ipv4Addr,
    /// Plain or not.
    pub transport: Transport,
    /// Who approves routes.
    pub approval: Approval,
}

/// Where things are, once ports and directories are chosen.
pub(super) struct Placement<'a> {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where its STUN answers, UDP.
    pub stun: SocketAddr,
    /// Private directory: database, keys, socket.
    pub private: &'a Path,
    /// Directory for files that hold no secret.
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
    /// The address by which nodes know the server, without a slash at the end.
    pub(super) fn url(&self, host: IpAddr, port: u16) -> String {
        let scheme = match self.transport {
            Transport::Http => "http",
            Transport::Https => "https",
        };
        format!("{scheme}://{}", SocketAddr::new(host, port))
    }

    /// headscale's configuration file.
    pub(super) fn config(&self, place: &Placement<'_>) -> Config {
        let private = |name: &str| place.private.join(name).to_string_lossy().into_owned();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        // Nobody asks these; port 0 takes any free one.
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
            // Longer than any run: an ephemeral node that loses its link must find its place again.
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

    /// The policy: everybody may talk to everybody, and who approves routes.
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

    /// The one relay region, which is this server itself. Nodes and the host reach it at different
    /// addresses, so it is listed under each; clients try one after the other.
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

/// headscale's configuration file; fields as in its example.
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
    /// Maps fetched from the internet: none.
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
    /// "none" keeps clients from looking for one.
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
