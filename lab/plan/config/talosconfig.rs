//! The client file of `talosctl` (machinery/client/config).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    pki,
    secrets::{SecretsBundle, SecretsError},
};

/// A talosconfig file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talosconfig {
    /// The name of the current context.
    pub context: String,
    /// All contexts by name.
    pub contexts: BTreeMap<String, Context>,
}

/// Credentials and addresses of one cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Endpoints, as `host:port` or host.
    pub endpoints: Vec<String>,
    /// Default target nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// CA certificate of the machine API, PEM in base64.
    pub ca: String,
    /// Client certificate, PEM in base64.
    pub crt: String,
    /// Client key, PEM in base64.
    pub key: String,
}

impl std::fmt::Debug for Talosconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Talosconfig(context {}, redacted)", self.context)
    }
}

/// Creates an administrator's client file (role `os:admin`) for `cluster`.
///
/// # Errors
/// Returns an error if the CA of the bundle cannot sign.
pub fn talosconfig(
    cluster: &str,
    endpoints: &[IpAddr],
    secrets: &SecretsBundle,
    now: jiff::Timestamp,
) -> Result<Talosconfig, SecretsError> {
    let now = OffsetDateTime::from_unix_timestamp(now.as_second()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let client = pki::client_certificate(&secrets.certs.os, &["os:admin"], now)?;
    let context = Context {
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
        nodes: Vec::new(),
        ca: secrets.certs.os.crt.clone(),
        crt: client.crt,
        key: client.key,
    };
    Ok(Talosconfig { context: cluster.to_owned(), contexts: [(cluster.to_owned(), context)].into() })
}

impl Talosconfig {
    /// Parses a file.
    ///
    /// # Errors
    /// Returns an error with line and column if the document is not a talosconfig.
    pub fn from_yaml(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// Returns the current context.
    pub fn current(&self) -> Option<&Context> {
        self.contexts.get(&self.context)
    }

    /// Replaces the endpoints.
    #[must_use]
    pub fn dialling(mut self, endpoints: &[IpAddr]) -> Self {
        if let Some(context) = self.contexts.get_mut(&self.context) {
            context.endpoints = endpoints.iter().map(ToString::to_string).collect();
            context.nodes = Vec::new();
        }
        self
    }

    /// Returns the file for clients on the host: they dial the forwarded port of the control plane, which
    /// forwards calls to other nodes. The default target is the control plane itself.
    #[must_use]
    pub fn through(mut self, port: SocketAddr, control_plane: IpAddr) -> Self {
        if let Some(context) = self.contexts.get_mut(&self.context) {
            context.endpoints = vec![port.to_string()];
            context.nodes = vec![control_plane.to_string()];
        }
        self
    }

    /// Returns the text of the file.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_yaml(&self) -> Result<String, SecretsError> {
        Ok(serde_yaml::to_string(self)?)
    }
}
