//! The machine API of a node without a config.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lab_model::Digest;
use tonic::transport::Channel;

use super::{
    answers::VersionInfo,
    api_error::{ApiError, limited},
    resources::{MachineStatus, Resource},
    tls,
    wire::{
        machine::{
            ApplyConfigurationRequest, apply_configuration_request::Mode,
            machine_service_client::MachineServiceClient,
        },
        resource::{GetRequest, state_client::StateClient},
    },
};

/// How the node applies a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyMode {
    /// The node decides whether a reboot is necessary.
    Auto,
    /// Apply and reboot.
    Reboot,
    /// Apply without a reboot, or fail.
    NoReboot,
}

impl ApplyMode {
    pub(super) fn wire(self) -> Mode {
        match self {
            Self::Auto => Mode::Auto,
            Self::Reboot => Mode::Reboot,
            Self::NoReboot => Mode::NoReboot,
        }
    }
}

/// A connection to a node in maintenance mode. The node's certificate does not prove its identity.
pub struct MaintenanceClient {
    node: IpAddr,
    channel: Channel,
    fingerprint: tls::Fingerprint,
}

impl MaintenanceClient {
    /// Connects to `via` for the node with address `node`.
    ///
    /// # Errors
    /// When the node does not answer or the TLS handshake fails.
    pub async fn connect(via: SocketAddr, node: IpAddr) -> Result<Self, ApiError> {
        let fingerprint = tls::Fingerprint::default();
        let channel = tls::connect(tls::unverified(&fingerprint)?, via, node).await?;
        Ok(Self { node, channel, fingerprint })
    }

    /// Returns the SHA-256 digest of the node's certificate.
    pub fn fingerprint(&self) -> Option<Digest> {
        self.fingerprint.get()
    }

    /// Sends a machine config and returns the node's warnings.
    ///
    /// # Errors
    /// [`ApiError::InvalidConfig`] with the node's message when the node rejects the config.
    pub async fn apply_configuration(
        &self,
        yaml: &str,
        mode: ApplyMode,
        dry_run: bool,
        limit: Duration,
    ) -> Result<Vec<String>, ApiError> {
        apply(self.channel.clone(), self.node, yaml, mode, dry_run, limit).await
    }

    /// Returns the node's version. Talos 1.11 and later return [`ApiError::Unimplemented`] in maintenance
    /// mode.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn version(&self, limit: Duration) -> Result<VersionInfo, ApiError> {
        VersionInfo::ask(self.channel.clone(), self.node, limit).await
    }

    /// Returns the machine status. Works in maintenance mode of all Talos versions.
    ///
    /// # Errors
    /// When the call fails or the reply has an unexpected shape.
    pub async fn machine_status(&self, limit: Duration) -> Result<MachineStatus, ApiError> {
        machine_status(self.channel.clone(), self.node, limit).await
    }
}

pub(super) async fn apply(
    channel: Channel,
    node: IpAddr,
    yaml: &str,
    mode: ApplyMode,
    dry_run: bool,
    limit: Duration,
) -> Result<Vec<String>, ApiError> {
    let request = ApplyConfigurationRequest { data: yaml.into(), mode: mode.wire().into(), dry_run };
    let mut client = MachineServiceClient::new(channel);
    let reply = limited(node, "apply the machine config", limit, client.apply_configuration(request)).await?;
    let mut warnings = Vec::new();
    for message in reply.messages {
        if let Some(error) = message.metadata.map(|metadata| metadata.error).filter(|error| !error.is_empty())
        {
            return Err(ApiError::InvalidConfig { node, message: error });
        }
        warnings.extend(message.warnings);
    }
    Ok(warnings)
}

pub(super) async fn machine_status(
    channel: Channel,
    node: IpAddr,
    limit: Duration,
) -> Result<MachineStatus, ApiError> {
    let request = GetRequest {
        namespace: "runtime".into(),
        r#type: "MachineStatuses.runtime.talos.dev".into(),
        id: "machine".into(),
    };
    let reply =
        limited(node, "read the machine status", limit, StateClient::new(channel).get(request)).await?;
    let resource = Resource::from_wire(reply.resource.unwrap_or_default());
    resource.view().map_err(|source| ApiError::shape(node, "machine status", &source))
}
