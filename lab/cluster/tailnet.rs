//! The tailnet of a cluster: its control server, and the document by which the gateway joins it.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    plan::NodePlan,
    spec::{ClusterSpec, Patch},
};
use crate::{
    machine::Processes,
    tailnet::{
        Approval, AuthKey, ClientSpec, ControlAccess, ControlServer, ControlSpec, ExtensionServiceConfig,
        GATEWAY_TAG, KeyOptions, Needed, OutsideClient, Programs, RouteProblem, ServiceConfigError,
        TAILSCALE, TailnetError, Transport, check_routes,
    },
};

/// The tailnet that is asked for: a control server of this run, on loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailnetSpec {
    /// The user's ExtensionServiceConfig; without one, a document with the cluster's networks as
    /// routes. Its key and login server are filled in.
    pub document: Option<Patch>,
    /// Whether the gateway's routes are approved.
    pub approval: RouteApproval,
    /// What is wrong with the gateway's key, to show that it is noticed.
    pub key: KeyState,
    /// Whether the control server is there when the gateway logs in.
    pub control_server: ControlServerState,
}

/// Whether the control server is there when the gateway logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlServerState {
    /// From the beginning.
    #[default]
    Up,
    /// It is down until a check starts it.
    DownAtLogin,
}

/// Whether the gateway's routes are approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteApproval {
    /// By the control server's policy, at login.
    #[default]
    Automatic,
    /// Never.
    Never,
}

/// Which key the gateway gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// One that works.
    #[default]
    Valid,
    /// One whose time is over.
    Expired,
}

/// Name of the client outside the cluster.
pub const OUTSIDE_CLIENT: &str = "outside";

/// Why there is no tailnet.
#[derive(Debug, thiserror::Error)]
pub enum TailnetSpecError {
    /// The document is of no use.
    #[error(transparent)]
    Document(#[from] ServiceConfigError),
    /// It can only be done to a control server of the run's own.
    #[error("{0} needs a control server of the run's own; run it without --tailnet real")]
    NeedsOwn(&'static str),
    /// Its routes do not fit the cluster.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Routes(Vec<RouteProblem>),
}

impl TailnetSpec {
    /// What of it cannot be had in a tailnet that is not the run's own.
    ///
    /// # Errors
    /// Names it.
    pub fn without_own_control_server(&self) -> Result<(), TailnetSpecError> {
        let needs = [
            (self.approval != RouteApproval::default(), "approval"),
            (self.key != KeyState::default(), "key"),
            (self.control_server != ControlServerState::default(), "controlServer"),
        ];
        match needs.into_iter().find(|(is, _)| *is) {
            Some((_, what)) => Err(TailnetSpecError::NeedsOwn(what)),
            None => Ok(()),
        }
    }

    /// The gateway's document without its key, after checking that its routes fit the cluster.
    ///
    /// # Errors
    /// See [`TailnetSpecError`].
    pub fn resolve(&self, spec: &ClusterSpec) -> Result<ExtensionServiceConfig, TailnetSpecError> {
        let networks = [("pod", spec.network.pods), ("service", spec.network.services)];
        let text = match &self.document {
            Some(document) => document.text.clone(),
            None => format!(
                "apiVersion: v1alpha1\nkind: ExtensionServiceConfig\nname: tailscale\nenvironment:\n  \
                 - TS_ROUTES={},{}\n",
                spec.network.pods, spec.network.services
            ),
        };
        let document = ExtensionServiceConfig::parse(&text)?;
        let routes = document.routes().map_err(ServiceConfigError::from)?;
        let needed = networks.map(|(name, network)| Needed { name, network: IpNet::V4(network) });
        let problems = check_routes(&routes, &needed);
        if problems.is_empty() { Ok(document) } else { Err(TailnetSpecError::Routes(problems)) }
    }
}

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
