//! The tailnet of a cluster: the control server, and the document that joins the gateway to the tailnet.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use lab_plan::{
    cluster::{ControlServerState, KeyState, NodePlan, OUTSIDE_CLIENT, Patch, RouteApproval, TailnetSpec},
    tailnet::{AuthKey, ControlAccess, ExtensionServiceConfig, NO_LOGS},
};
use lab_vm::{
    network::{Egress, HostPort},
    process::Processes,
};

use crate::tailnet::{
    Approval, ClientSpec, ControlServer, ControlSpec, GATEWAY_TAG, KeyOptions, OutsideClient, Programs,
    TAILSCALE, TailnetError, Transport,
};

/// An existing tailnet that the user provides.
#[derive(Clone, Debug)]
pub struct RealTailnet {
    /// URL of the control server, as in `--login-server`. `None` means Tailscale's control server. Nodes
    /// reach a control server on the host's loopback at the gateway address of the LAN.
    pub login_server: Option<String>,
    /// PEM certificate that clients trust for the control server, instead of the system's root certificates.
    pub authority: Option<String>,
    /// A reusable auth key for the gateway and the outside client. The policy of the tailnet must approve the
    /// routes for the key's tag.
    pub key: AuthKey,
}

impl RealTailnet {
    /// Whether the control server is not on this host's loopback.
    pub fn is_beyond_the_host(&self) -> bool {
        self.login_server.as_ref().is_none_or(|url| !LOOPBACK.iter().any(|name| url.contains(name)))
    }

    /// The ports of this host's loopback that nodes need: those of a control server on it, and of its STUN.
    fn host_ports(&self) -> Vec<HostPort> {
        if self.is_beyond_the_host() {
            return Vec::new();
        }
        let port = self.login_server.as_deref().and_then(authority_of).map(|(_, port)| port);
        port.map(HostPort::Tcp).into_iter().chain([HostPort::Udp(STUN_PORT)]).collect()
    }

    fn seen_from_host(&self) -> ControlAccess {
        let url = self.login_server.clone().unwrap_or_else(|| TAILSCALE.to_owned());
        ControlAccess { url, authority: self.authority.clone() }
    }

    fn seen_from_nodes(&self, gateway: Ipv4Addr) -> Option<ControlAccess> {
        let url = self.login_server.as_ref()?;
        let url =
            LOOPBACK.iter().fold(url.clone(), |url, name| url.replacen(name, &format!("//{gateway}"), 1));
        Some(ControlAccess { url, authority: self.authority.clone() })
    }
}

/// The port of STUN (RFC 8489), which Tailscale's relays use too.
const STUN_PORT: u16 = 3478;

/// Host and port of a URL.
fn authority_of(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let default = if scheme == "http" { 80 } else { 443 };
    match authority.rsplit_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((authority, default)),
    }
}

/// How a URL begins after its scheme that means this host.
const LOOPBACK: [&str; 2] = ["//127.0.0.1", "//localhost"];

/// The operator of the tailnet.
enum Home {
    /// The run starts its own control server.
    Own(Box<ControlServer>),
    /// The user or Tailscale operates the control server.
    Real {
        tailnet: RealTailnet,
        /// The control server as the nodes reach it. `None` leaves the choice to their documents.
        from_nodes: Option<ControlAccess>,
    },
}

/// The tailnet of a running cluster. Drop ends its processes.
pub struct Tailnet {
    spec: TailnetSpec,
    document: ExtensionServiceConfig,
    home: Home,
    programs: Programs,
    processes: Processes,
    directory: PathBuf,
}

impl Tailnet {
    /// Starts a control server. If `saved` is set, restores its state from that directory. Nodes reach the
    /// host's loopback at the address `seen_from_nodes`.
    ///
    /// # Errors
    /// When the control server does not start.
    pub async fn start(
        spec: TailnetSpec,
        document: ExtensionServiceConfig,
        programs: Programs,
        processes: Processes,
        directory: PathBuf,
        seen_from_nodes: Ipv4Addr,
        saved: Option<&Path>,
    ) -> Result<Self, TailnetError> {
        let approval = match spec.approval {
            RouteApproval::Automatic => Approval::Automatic(document.routes().unwrap_or_default()),
            RouteApproval::Never => Approval::ByCall,
        };
        let control = ControlSpec { seen_from_nodes, transport: Transport::Https, approval };
        let control = match saved {
            Some(saved) => ControlServer::restore(control, saved, &programs, &processes, &directory).await?,
            None => ControlServer::start(control, &programs, &processes, &directory).await?,
        };
        Ok(Self { spec, document, home: Home::Own(Box::new(control)), programs, processes, directory })
    }

    /// Uses the user's tailnet and starts no process. Nodes reach the host's loopback at the address
    /// `gateway`.
    pub fn of_the_user(
        tailnet: RealTailnet,
        document: ExtensionServiceConfig,
        programs: Programs,
        processes: Processes,
        directory: PathBuf,
        gateway: Ipv4Addr,
    ) -> Self {
        let from_nodes = tailnet.seen_from_nodes(gateway);
        let home = Home::Real { tailnet, from_nodes };
        Self { spec: TailnetSpec::default(), document, home, programs, processes, directory }
    }

    /// Returns the control server that this run started, if any.
    pub fn control(&self) -> Option<&ControlServer> {
        match &self.home {
            Home::Own(control) => Some(control),
            Home::Real { .. } => None,
        }
    }

    /// The ports of this host's loopback that nodes need for it.
    pub(super) fn host_ports(&self) -> Vec<HostPort> {
        match &self.home {
            Home::Own(control) => control.ports().into(),
            Home::Real { tailnet, .. } => tailnet.host_ports(),
        }
    }

    /// How far nodes must be let out of the lab to reach it; `None`: not at all.
    pub(super) fn egress(&self) -> Option<Egress> {
        match &self.home {
            Home::Real { tailnet, .. } if tailnet.is_beyond_the_host() => {
                let host = tailnet.login_server.as_deref().and_then(authority_of);
                let also = host.and_then(|(host, _)| host.parse().ok());
                Some(Egress::Allow { also: also.filter(|address: &Ipv4Addr| !address.is_loopback()) })
            }
            Home::Own(_) | Home::Real { .. } => None,
        }
    }

    /// Redacts the keys of the tailnet in `text`.
    pub fn redact(&self, text: String) -> String {
        match &self.home {
            Home::Own(control) => control.redact(text),
            Home::Real { tailnet, .. } => tailnet.key.redact(&text),
        }
    }

    /// Returns the gateway's document without the auth key.
    pub fn document(&self) -> &ExtensionServiceConfig {
        &self.document
    }

    /// Returns the gateway's document with a new auth key, and a sentence about the lab's other additions. Do not
    /// write the document to a file.
    pub(super) async fn gateway_document(&self) -> Result<(Patch, Option<String>), TailnetError> {
        let valid = match self.spec.key {
            KeyState::Valid => Duration::from_secs(3600),
            KeyState::Expired => Duration::ZERO,
        };
        let options = KeyOptions { valid, tags: vec![GATEWAY_TAG.to_owned()], ..KeyOptions::default() };
        // The user's own tailnet may be on the internet, and its logs are the user's.
        let quiet = match &self.home {
            Home::Own(_) => self.document.without_outside_requests(),
            Home::Real { .. } => None,
        };
        let added = quiet.is_some().then(|| {
            format!("the document of tailscale gets {NO_LOGS}=true: without internet access there is no log server")
        });
        let document = quiet.as_ref().unwrap_or(&self.document);
        let document = match &self.home {
            Home::Own(control) => {
                let key = control.create_key(&options).await?;
                if self.spec.control_server == ControlServerState::DownAtLogin {
                    control.stop().await;
                }
                document.with_login(&key, Some(&control.access_from_nodes()))
            }
            Home::Real { tailnet, from_nodes } => document.with_login(&tailnet.key, from_nodes.as_ref()),
        };
        // Serialization cannot fail, because the document contains only strings.
        let text = document.to_yaml().unwrap_or_default();
        Ok((Patch { origin: "the tailnet of the run".to_owned(), text }, added))
    }

    /// Returns the host name of a gateway in the tailnet: `TS_HOSTNAME` of its document, or its node name.
    pub fn gateway_name(&self, node: &NodePlan) -> String {
        self.document.variable("TS_HOSTNAME").unwrap_or(node.spec.name.as_str()).to_owned()
    }

    /// Like [`Tailnet::outside_client`], and waits until the client has received the gateway's routes.
    ///
    /// # Errors
    /// When the login or the routes take longer than `patience`, or a process fails.
    pub async fn routed_client(&self, patience: Duration) -> Result<OutsideClient, TailnetError> {
        let client = self.outside_client(patience).await?;
        let routes = self.document.routes().unwrap_or_default();
        client.wait_for("the gateway's routes", patience, |status| status.routes_all(&routes)).await?;
        Ok(client)
    }

    /// Starts a client outside the cluster that accepts routes, and logs it in.
    ///
    /// # Errors
    /// When the client does not start, or the login takes longer than `patience`.
    pub async fn outside_client(&self, patience: Duration) -> Result<OutsideClient, TailnetError> {
        let (key, access) = match &self.home {
            Home::Own(control) => {
                (control.create_key(&KeyOptions::default()).await?, control.access_from_host())
            }
            Home::Real { tailnet, .. } => (tailnet.key.clone(), tailnet.seen_from_host()),
        };
        let client = OutsideClient::start(
            ClientSpec::accepting(OUTSIDE_CLIENT),
            &access,
            &self.programs,
            &self.processes,
            &self.directory,
        )
        .await?;
        client.log_in(&key, patience).await?;
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real(url: Option<&str>) -> RealTailnet {
        let key = AuthKey::new("tskey-auth-test", "a test").expect("key");
        RealTailnet { login_server: url.map(str::to_owned), authority: None, key }
    }

    #[test]
    fn a_control_server_on_this_host_opens_its_own_ports_and_nothing_else() {
        let ports = |url| real(url).host_ports();
        assert_eq!(ports(Some("https://127.0.0.1:8443")), [HostPort::Tcp(8443), HostPort::Udp(STUN_PORT)]);
        assert_eq!(ports(Some("http://localhost/x")), [HostPort::Tcp(80), HostPort::Udp(STUN_PORT)]);
        assert!(ports(None).is_empty() && ports(Some("https://control.example:8443")).is_empty());
    }
}
