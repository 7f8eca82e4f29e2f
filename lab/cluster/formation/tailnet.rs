//! The tailnet of a cluster: its control server, and the document by which the gateway joins it.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use lab_plan::{
    cluster::{ControlServerState, KeyState, NodePlan, OUTSIDE_CLIENT, Patch, RouteApproval, TailnetSpec},
    tailnet::{AuthKey, ControlAccess, ExtensionServiceConfig},
};
use lab_vm::process::Processes;

use crate::tailnet::{
    Approval, ClientSpec, ControlServer, ControlSpec, GATEWAY_TAG, KeyOptions, OutsideClient, Programs,
    TAILSCALE, TailnetError, Transport,
};

/// A tailnet of the user's own.
#[derive(Clone, Debug)]
pub struct RealTailnet {
    /// Its control server, as in `--login-server`; without one, Tailscale's own. One on this host's
    /// loopback is reached by the nodes at the LAN's gateway.
    pub login_server: Option<String>,
    /// PEM certificate to trust for it in place of the system's.
    pub authority: Option<String>,
    /// A reusable key for gateway and outside client; the tailnet's policy must approve the routes
    /// for its tag.
    pub key: AuthKey,
}

impl RealTailnet {
    /// Whether nodes must leave the host to reach it.
    pub fn is_beyond_the_host(&self) -> bool {
        self.login_server.as_ref().is_none_or(|url| !LOOPBACK.iter().any(|name| url.contains(name)))
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

/// How a URL begins after its scheme that means this host.
const LOOPBACK: [&str; 2] = ["//127.0.0.1", "//localhost"];

/// Who runs the tailnet.
enum Home {
    /// This run.
    Own(Box<ControlServer>),
    /// The user, or Tailscale.
    Real {
        tailnet: RealTailnet,
        /// As the nodes see it; none: what their documents say.
        from_nodes: Option<ControlAccess>,
    },
}

/// The tailnet of a cluster while it lives. Dropping it ends its processes.
pub struct Tailnet {
    spec: TailnetSpec,
    document: ExtensionServiceConfig,
    home: Home,
    programs: Programs,
    processes: Processes,
    directory: PathBuf,
}

impl Tailnet {
    /// Starts the control server, or takes up the one whose state was `saved`; `seen_from_nodes` is where
    /// nodes reach the host's loopback.
    ///
    /// # Errors
    /// When it does not start.
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

    /// The user's own tailnet; nothing is started for it. `gateway` is where nodes reach the host's
    /// loopback.
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

    /// The control server, if the run has one of its own.
    pub fn control(&self) -> Option<&ControlServer> {
        match &self.home {
            Home::Own(control) => Some(control),
            Home::Real { .. } => None,
        }
    }

    /// Whether nodes must be let out of the lab to reach it.
    pub(super) fn is_beyond_the_host(&self) -> bool {
        matches!(&self.home, Home::Real { tailnet, .. } if tailnet.is_beyond_the_host())
    }

    /// `text` without the keys of the tailnet.
    pub fn redact(&self, text: String) -> String {
        match &self.home {
            Home::Own(control) => control.redact(text),
            Home::Real { tailnet, .. } => tailnet.key.redact(&text),
        }
    }

    /// The gateway's document, without its key.
    pub fn document(&self) -> &ExtensionServiceConfig {
        &self.document
    }

    /// The gateway's document with a fresh key in it; never to be written down.
    pub(super) async fn gateway_document(&self) -> Result<Patch, TailnetError> {
        let valid = match self.spec.key {
            KeyState::Valid => Duration::from_secs(3600),
            KeyState::Expired => Duration::ZERO,
        };
        let options = KeyOptions { valid, tags: vec![GATEWAY_TAG.to_owned()], ..KeyOptions::default() };
        let document = match &self.home {
            Home::Own(control) => {
                let key = control.create_key(&options).await?;
                if self.spec.control_server == ControlServerState::DownAtLogin {
                    control.stop().await;
                }
                self.document.with_login(&key, Some(&control.access_from_nodes()))
            }
            Home::Real { tailnet, from_nodes } => self.document.with_login(&tailnet.key, from_nodes.as_ref()),
        };
        // Writing a document of strings cannot fail.
        let text = document.to_yaml().unwrap_or_default();
        Ok(Patch { origin: "the tailnet of the run".to_owned(), text })
    }

    /// The name by which a gateway joins: its document's, or else its own.
    pub fn gateway_name(&self, node: &NodePlan) -> String {
        self.document.variable("TS_HOSTNAME").unwrap_or(node.spec.name.as_str()).to_owned()
    }

    /// As [`Tailnet::outside_client`], with the gateway's routes in its map.
    ///
    /// # Errors
    /// When it does not get that far.
    pub async fn routed_client(&self, patience: Duration) -> Result<OutsideClient, TailnetError> {
        let client = self.outside_client(patience).await?;
        let routes = self.document.routes().unwrap_or_default();
        client.wait_for("the gateway's routes", patience, |status| status.routes_all(&routes)).await?;
        Ok(client)
    }

    /// A logged-in client outside the cluster that accepts routes.
    ///
    /// # Errors
    /// When it does not get that far.
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
