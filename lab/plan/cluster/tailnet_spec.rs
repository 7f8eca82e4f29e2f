//! The tailnet that a scenario asks for, as plain data.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::spec::{ClusterSpec, Patch};
use crate::tailnet::{ExtensionServiceConfig, Needed, RouteProblem, ServiceConfigError, check_routes};

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
