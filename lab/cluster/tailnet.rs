//! The tailnet of a cluster: its control server, and the document by which the gateway joins it.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::spec::{ClusterSpec, Patch};
use crate::{
    machine::Processes,
    tailnet::{
        Approval, ClientSpec, ControlServer, ControlSpec, ExtensionServiceConfig, GATEWAY_TAG, KeyOptions,
        Needed, OutsideClient, Programs, RouteProblem, ServiceConfigError, TailnetError, Transport,
        check_routes,
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

/// Why there is no tailnet.
#[derive(Debug, thiserror::Error)]
pub enum TailnetSpecError {
    /// The document is of no use.
    #[error(transparent)]
    Document(#[from] ServiceConfigError),
    /// Its routes do not fit the cluster.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Routes(Vec<RouteProblem>),
}

impl TailnetSpec {
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

/// The running tailnet of a cluster. Dropping it ends its processes.
pub struct Tailnet {
    spec: TailnetSpec,
    document: ExtensionServiceConfig,
    control: ControlServer,
    programs: Programs,
    processes: Processes,
    directory: PathBuf,
}

impl Tailnet {
    /// Starts the control server; `seen_from_nodes` is where nodes reach the host's loopback.
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
    ) -> Result<Self, TailnetError> {
        let approval = match spec.approval {
            RouteApproval::Automatic => Approval::Automatic(document.routes().unwrap_or_default()),
            RouteApproval::Never => Approval::ByCall,
        };
        let control = ControlSpec { seen_from_nodes, transport: Transport::Https, approval };
        let control = ControlServer::start(control, &programs, &processes, &directory).await?;
        Ok(Self { spec, document, control, programs, processes, directory })
    }

    /// The control server.
    pub fn control(&self) -> &ControlServer {
        &self.control
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
        let key = self.control.create_key(&options).await?;
        if self.spec.control_server == ControlServerState::DownAtLogin {
            self.control.stop().await;
        }
        let document = self.document.with_login(&key, Some(&self.control.access_from_nodes()));
        // Writing a document of strings cannot fail.
        let text = document.to_yaml().unwrap_or_default();
        Ok(Patch { origin: "the tailnet of the run".to_owned(), text })
    }

    /// A logged-in client outside the cluster that accepts routes.
    ///
    /// # Errors
    /// When it does not get that far.
    pub async fn outside_client(&self, patience: Duration) -> Result<OutsideClient, TailnetError> {
        let key = self.control.create_key(&KeyOptions::default()).await?;
        let client = OutsideClient::start(
            ClientSpec::accepting("outside"),
            &self.control.access_from_host(),
            &self.programs,
            &self.processes,
            &self.directory,
        )
        .await?;
        client.log_in(&key, patience).await?;
        Ok(client)
    }
}
