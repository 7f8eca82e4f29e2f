//! The tailnet of a scenario, as plain data.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::spec::{ClusterSpec, Patch};
use crate::tailnet::{ExtensionServiceConfig, Needed, RouteProblem, ServiceConfigError, check_routes};

/// The specification of a tailnet with a local control server on loopback.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailnetSpec {
    /// The user's ExtensionServiceConfig. `None` means a document with the cluster networks as routes.
    /// The lab fills in the key and the login server.
    pub document: Option<Patch>,
    /// Approval of the gateway routes.
    pub approval: RouteApproval,
    /// State of the gateway key. A bad key shows that the lab detects it.
    pub key: KeyState,
    /// Whether the control server is available when the gateway logs in.
    pub control_server: ControlServerState,
}

/// Whether the control server is available when the gateway logs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlServerState {
    /// Available from the start.
    #[default]
    Up,
    /// Down until a check starts it.
    DownAtLogin,
}

/// Approval of the gateway routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteApproval {
    /// Approved at login by the policy of the control server.
    #[default]
    Automatic,
    /// Never approved.
    Never,
}

/// State of the gateway key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// A valid key.
    #[default]
    Valid,
    /// An expired key.
    Expired,
}

/// Name of the client outside the cluster.
pub const OUTSIDE_CLIENT: &str = "outside";

/// Tailnet configuration errors.
#[derive(Debug, thiserror::Error)]
pub enum TailnetSpecError {
    /// The document is invalid.
    #[error(transparent)]
    Document(#[from] ServiceConfigError),
    /// The setting requires a local control server.
    #[error("{0} needs a control server of the run's own; run it without --tailnet real")]
    NeedsOwn(&'static str),
    /// The routes do not match the cluster.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Routes(Vec<RouteProblem>),
}

impl TailnetSpec {
    /// Checks that the spec does not depend on a local control server.
    ///
    /// # Errors
    /// Returns the first setting that requires a local control server.
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

    /// Returns the gateway's document without its key, after a check of the routes against the cluster.
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
