//! The authenticated API of a configured node.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{Stream, StreamExt};
use tonic::{Code, Response, Status, transport::Channel};

use super::{
    kubeconfig_archive::kubeconfig_in,
    maintenance::{ApplyMode, apply, machine_status},
    resources::{MachineStatus, Resource},
    talosconfig::Talosconfig,
    tls,
    wire::{
        common,
        machine::{
            BootstrapRequest, DmesgRequest, LogsRequest, ReadRequest, RebootRequest, ResetRequest,
            ShutdownRequest, machine_service_client::MachineServiceClient, reboot_request,
        },
        resource::{EventType, ListRequest, WatchOptions, WatchRequest, state_client::StateClient},
        time::time_service_client::TimeServiceClient,
    },
};

/// Why a machine API call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answered.
    #[error("the machine API of {node} cannot be reached: {reason}")]
    Unreachable {
        /// Whose.
        node: IpAddr,
        /// What was seen.
        reason: String,
    },
    /// The two sides do not trust each other.
    #[error(
        "no trusted connection to the machine API of {node}: {reason}; node and client hold secrets of different clusters"
    )]
    Tls {
        /// Whose.
        node: IpAddr,
        /// What the TLS library said.
        reason: String,
    },
    /// Not now, later perhaps.
    #[error("{node} is not ready to {action}: {message}")]
    NotYet {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// The node's words.
        message: String,
    },
    /// It has been done before.
    #[error("{node}: {action} was done before")]
    AlreadyExists {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
    },
    /// The node refuses the config.
    #[error("{node} refuses the machine config: {message}")]
    InvalidConfig {
        /// Whose.
        node: IpAddr,
        /// The node's words.
        message: String,
    },
    /// The client may not do that.
    #[error("{node} does not allow to {action}: {message}")]
    PermissionDenied {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// The node's words.
        message: String,
    },
    /// The node's version, or its mode, has no such call.
    #[error("{node} cannot {action} in its present mode or version")]
    Unimplemented {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
    },
    /// No answer in time.
    #[error("{node} did not {action} within {} s", limit.as_secs())]
    Deadline {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The credentials cannot be used.
    #[error("the client credentials {what}; generate them again from the cluster's secrets")]
    Credentials {
        /// What is wrong with them.
        what: &'static str,
    },
    /// Anything else the node said.
    #[error("{node} failed to {action}: {message}")]
    Other {
        /// Whose.
        node: IpAddr,
        /// What was asked.
        action: &'static str,
        /// The node's words.
        message: String,
    },
}

impl ApiError {
    /// Whether the same call may succeed later without anything being changed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NotYet { .. } | Self::Deadline { .. })
    }

    pub(super) fn unreachable(node: IpAddr, source: &dyn std::error::Error) -> Self {
        Self::Unreachable { node, reason: innermost(source) }
    }

    /// Tells a refused certificate from a closed port.
    pub(super) fn from_transport(node: IpAddr, source: &dyn std::error::Error) -> Self {
        let reason = innermost(source);
        let untrusted = ["certificate", "UnknownIssuer", "UnknownCA", "BadSignature", "BadCertificate"];
        if untrusted.iter().any(|word| reason.contains(word)) {
            Self::Tls { node, reason }
        } else {
            Self::Unreachable { node, reason }
        }
    }

    pub(super) fn shape(node: IpAddr, what: &'static str, source: &dyn std::error::Error) -> Self {
        Self::Other {
            node,
            action: "describe itself",
            message: format!("its {what} has an unknown shape: {source}"),
        }
    }

    fn from_status(node: IpAddr, action: &'static str, status: &Status) -> Self {
        // What the node itself says comes without a source. With one, the status was made on this
        // side because the connection broke in the middle; its code is then Unknown or Cancelled.
        if std::error::Error::source(status).is_some() {
            return Self::from_transport(node, status);
        }
        let message = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition => Self::NotYet { node, action, message },
            Code::AlreadyExists => Self::AlreadyExists { node, action },
            Code::InvalidArgument => Self::InvalidConfig { node, message },
            Code::PermissionDenied | Code::Unauthenticated => {
                Self::PermissionDenied { node, action, message }
            }
            Code::Unimplemented => Self::Unimplemented { node, action },
            Code::Unavailable => Self::from_transport(node, status),
            _ => Self::Other { node, action, message },
        }
    }
}

/// The text of the error at the end of the chain, which says most.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Runs a call within `limit` and turns its status into an [`ApiError`].
pub(super) async fn limited<T>(
    node: IpAddr,
    action: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(ApiError::from_status(node, action, &status)),
        Err(_) => Err(ApiError::Deadline { node, action, limit }),
    }
}

/// A client's proof of who it is, PEM in base64 as in a talosconfig.
#[derive(Clone)]
pub struct Credentials {
    pub(super) ca: String,
    pub(super) crt: String,
    pub(super) key: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(redacted)")
    }
}

impl Credentials {
    /// Those of the talosconfig's current context, if there is one.
    pub fn of(config: &Talosconfig) -> Option<Self> {
        let context = config.contexts.get(&config.context)?;
        Some(Self { ca: context.ca.clone(), crt: context.crt.clone(), key: context.key.clone() })
    }
}

/// What a node says of its software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Version tag, e.g. `v1.13.9`.
    pub tag: String,
    /// CPU architecture, e.g. `arm64`.
    pub architecture: String,
    /// Platform, e.g. `metal`.
    pub platform: String,
}

impl VersionInfo {
    pub(super) async fn ask(channel: Channel, node: IpAddr, limit: Duration) -> Result<Self, ApiError> {
        let mut client = MachineServiceClient::new(channel);
        let reply = limited(node, "tell its version", limit, client.version(())).await?;
        let message = reply.messages.into_iter().next().unwrap_or_default();
        let version = message.version.unwrap_or_default();
        Ok(Self {
            tag: version.tag,
            architecture: version.arch,
            platform: message.platform.unwrap_or_default().name,
        })
    }
}

/// A service of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// Identifier, e.g. `kubelet` or `ext-tailscale`.
    pub id: String,
    /// State as Talos names it: `Waiting`, `Preparing`, `Running`, `Finished`, `Failed`, …
    pub state: String,
    /// Outcome of its health check.
    pub health: ServiceHealth,
    /// The message of its latest event: what it waits for, or how it failed.
    pub message: String,
    /// How often it ended and was started again, as far back as the node remembers.
    pub restarts: usize,
    /// How it ended before the last restart; empty without one.
    pub last_end: String,
}

/// The words of Talos's service runner when a program ended and will be started again
/// (internal/app/machined/pkg/system/runner/restart).
const RESTART: &str = "going to restart";

/// Outcome of a service's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceHealth {
    /// It has none, or it has not run yet.
    Unknown,
    /// It passes.
    Healthy,
    /// It fails.
    Unhealthy,
}

impl ServiceState {
    /// Whether the boot sequence counts it as up: running and not unhealthy, or finished its work.
    pub fn is_up(&self) -> bool {
        match self.state.as_str() {
            "Running" => self.health != ServiceHealth::Unhealthy,
            "Finished" | "Skipped" => true,
            _ => false,
        }
    }

    /// Whether its program ends again and again, though it may be up at this moment. One end is
    /// forgiven: a service may start before what it needs.
    pub fn keeps_restarting(&self) -> bool {
        self.restarts > 1
    }
}

/// A process of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: i32,
    /// The program's short name.
    pub command: String,
    /// The whole command line.
    pub arguments: String,
    /// CPU time used, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident: u64,
}

/// Why a node is told to boot again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootReason {
    /// Talos's default path, which needs a boot loader.
    Default,
    /// Through the firmware: what a node without a boot loader needs.
    PowerCycle,
}

/// A mutually authenticated connection to one node.
#[derive(Clone)]
pub struct NodeClient {
    node: IpAddr,
    channel: Channel,
}

impl NodeClient {
    /// Dials `via` and verifies that the node with address `node` answers.
    ///
    /// # Errors
    /// [`ApiError::Tls`] when the two sides do not trust each other, [`ApiError::Unreachable`]
    /// when nobody answers.
    pub async fn connect(via: SocketAddr, node: IpAddr, credentials: &Credentials) -> Result<Self, ApiError> {
        let channel = tls::connect(tls::mutual(credentials)?, via, node).await?;
        Ok(Self { node, channel })
    }

    fn machine(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    /// What the node's own clock says.
    ///
    /// # Errors
    /// When the call fails or the answer is no time.
    pub async fn time(&self, limit: Duration) -> Result<jiff::Timestamp, ApiError> {
        let action = "tell its time";
        let mut client = TimeServiceClient::new(self.channel.clone());
        let reply = limited(self.node, action, limit, client.time(())).await?;
        let time = reply.messages.into_iter().next().and_then(|message| message.localtime);
        time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok()).ok_or_else(|| {
            ApiError::Other { node: self.node, action, message: "the answer holds no time".into() }
        })
    }

    /// The node's version.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn version(&self, limit: Duration) -> Result<VersionInfo, ApiError> {
        VersionInfo::ask(self.channel.clone(), self.node, limit).await
    }

    /// Asks etcd to found a cluster, on exactly one control plane.
    ///
    /// # Errors
    /// [`ApiError::NotYet`] while the node is not ready for it, [`ApiError::AlreadyExists`] when
    /// it was done.
    pub async fn bootstrap(&self, limit: Duration) -> Result<(), ApiError> {
        let mut client = self.machine();
        let reply =
            limited(self.node, "bootstrap etcd", limit, client.bootstrap(BootstrapRequest::default()))
                .await?;
        self.refused("bootstrap etcd", reply.messages.into_iter().map(|message| message.metadata))
    }

    /// The administrator's kubeconfig, from a stream of a tar.gz archive.
    ///
    /// # Errors
    /// When the call fails or the archive holds no kubeconfig.
    pub async fn kubeconfig(&self, limit: Duration) -> Result<String, ApiError> {
        let action = "hand out the kubeconfig";
        let mut client = self.machine();
        let archive = self.collect(action, limit, client.kubeconfig(())).await?;
        let bad = |message: String| ApiError::Other { node: self.node, action, message };
        kubeconfig_in(&archive).map_err(|error| bad(format!("the archive that it sent: {error}")))
    }

    /// All services with their states.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn services(&self, limit: Duration) -> Result<Vec<ServiceState>, ApiError> {
        let mut client = self.machine();
        let reply = limited(self.node, "list its services", limit, client.service_list(())).await?;
        let services = reply.messages.into_iter().flat_map(|message| message.services);
        Ok(services
            .map(|service| {
                let health = service.health.unwrap_or_default();
                let events = service.events.map(|events| events.events).unwrap_or_default();
                let ends: Vec<_> = events.iter().filter(|event| event.msg.contains(RESTART)).collect();
                ServiceState {
                    id: service.id,
                    state: service.state,
                    health: match (health.unknown, health.healthy) {
                        (true, _) => ServiceHealth::Unknown,
                        (false, true) => ServiceHealth::Healthy,
                        (false, false) => ServiceHealth::Unhealthy,
                    },
                    restarts: ends.len(),
                    last_end: ends.last().map(|event| event.msg.clone()).unwrap_or_default(),
                    message: events.last().map(|event| event.msg.clone()).unwrap_or_default(),
                }
            })
            .collect())
    }

    /// All processes.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn processes(&self, limit: Duration) -> Result<Vec<ProcessInfo>, ApiError> {
        let mut client = self.machine();
        let reply = limited(self.node, "list its processes", limit, client.processes(())).await?;
        let processes = reply.messages.into_iter().flat_map(|message| message.processes);
        Ok(processes
            .map(|process| ProcessInfo {
                pid: process.pid,
                command: process.command,
                arguments: process.args,
                cpu_seconds: process.cpu_time,
                resident: process.resident_memory,
            })
            .collect())
    }

    /// The last `lines` lines of a service's log.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn logs(&self, service: &str, lines: i32, limit: Duration) -> Result<String, ApiError> {
        let request =
            LogsRequest { namespace: "system".into(), id: service.into(), follow: false, tail_lines: lines };
        let mut client = self.machine();
        let bytes = self.collect("send a log", limit, client.logs(request)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file of the node.
    ///
    /// # Errors
    /// When the call fails, as it does for what is no regular file.
    pub async fn read_file(&self, path: &str, limit: Duration) -> Result<String, ApiError> {
        let mut client = self.machine();
        let request = ReadRequest { path: path.into() };
        let bytes = self.collect("send a file", limit, client.read(request)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The kernel's messages so far.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn dmesg(&self, limit: Duration) -> Result<String, ApiError> {
        let mut client = self.machine();
        let request = DmesgRequest { follow: false, tail: false };
        let bytes = self.collect("send the kernel's messages", limit, client.dmesg(request)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends a machine config and returns the node's warnings.
    ///
    /// # Errors
    /// [`ApiError::InvalidConfig`] with the node's own words when it refuses the config.
    pub async fn apply_configuration(
        &self,
        yaml: &str,
        mode: ApplyMode,
        limit: Duration,
    ) -> Result<Vec<String>, ApiError> {
        apply(self.channel.clone(), self.node, yaml, mode, false, limit).await
    }

    /// Boots the node again.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn reboot(&self, reason: BootReason, limit: Duration) -> Result<(), ApiError> {
        let mode = match reason {
            BootReason::Default => reboot_request::Mode::Default,
            BootReason::PowerCycle => reboot_request::Mode::Powercycle,
        };
        let mut client = self.machine();
        let reply =
            limited(self.node, "reboot", limit, client.reboot(RebootRequest { mode: mode.into() })).await?;
        self.refused("reboot", reply.messages.into_iter().map(|message| message.metadata))
    }

    /// Powers the node off.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), ApiError> {
        let mut client = self.machine();
        let reply =
            limited(self.node, "shut down", limit, client.shutdown(ShutdownRequest { force: false })).await?;
        self.refused("shut down", reply.messages.into_iter().map(|message| message.metadata))
    }

    /// Wipes the node's state and boots it again.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn reset(&self, limit: Duration) -> Result<(), ApiError> {
        let mut client = self.machine();
        let request = ResetRequest { graceful: false, reboot: true };
        let reply = limited(self.node, "reset itself", limit, client.reset(request)).await?;
        self.refused("reset itself", reply.messages.into_iter().map(|message| message.metadata))
    }

    /// Where the machine stands.
    ///
    /// # Errors
    /// When the call fails or the answer has another shape.
    pub async fn machine_status(&self, limit: Duration) -> Result<MachineStatus, ApiError> {
        machine_status(self.channel.clone(), self.node, limit).await
    }

    /// All resources of a type.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn list(
        &self,
        namespace: &str,
        kind: &str,
        limit: Duration,
    ) -> Result<Vec<Resource>, ApiError> {
        let action = "list resources";
        let request = ListRequest { namespace: namespace.into(), r#type: kind.into() };
        let listed = async {
            let mut client = StateClient::new(self.channel.clone());
            let mut stream = client.list(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(reply) = stream.message().await? {
                found.extend(reply.resource.map(Resource::from_wire));
            }
            Ok(Response::new(found))
        };
        limited(self.node, action, limit, listed).await
    }

    /// Every creation and update of a type's resources, starting with those that exist. An error
    /// is the last item: the connection broke, or the node gave the watch up.
    ///
    /// # Errors
    /// When the watch cannot be established.
    pub async fn watch(
        &self,
        namespace: &str,
        kind: &str,
        limit: Duration,
    ) -> Result<impl Stream<Item = Result<Resource, ApiError>> + Send + use<>, ApiError> {
        let (node, action) = (self.node, "watch resources");
        let request = WatchRequest {
            namespace: namespace.into(),
            r#type: kind.into(),
            id: None,
            options: Some(WatchOptions { bootstrap_contents: true }),
            api_version: 1,
        };
        let mut client = StateClient::new(self.channel.clone());
        let stream = limited(node, action, limit, client.watch(request)).await?;
        let events = stream.flat_map(move |reply| {
            let events = match reply {
                Ok(reply) => reply
                    .event
                    .into_iter()
                    .filter_map(|event| match event.event_type() {
                        EventType::Created | EventType::Updated => {
                            event.resource.map(|resource| Ok(Resource::from_wire(resource)))
                        }
                        EventType::Errored => {
                            let message = event.error.unwrap_or_else(|| "the watch failed".into());
                            Some(Err(ApiError::Other { node, action, message }))
                        }
                        _ => None,
                    })
                    .collect(),
                Err(status) => vec![Err(ApiError::from_status(node, action, &status))],
            };
            futures::stream::iter(events)
        });
        Ok(events)
    }

    async fn collect(
        &self,
        action: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<Response<tonic::Streaming<common::Data>>, Status>>,
    ) -> Result<Vec<u8>, ApiError> {
        let collected = async {
            let mut stream = call.await?.into_inner();
            let mut bytes = Vec::new();
            while let Some(data) = stream.message().await? {
                if let Some(error) = data.metadata.map(|m| m.error).filter(|error| !error.is_empty()) {
                    return Err(Status::unknown(error));
                }
                bytes.extend(data.bytes);
            }
            Ok(Response::new(bytes))
        };
        limited(self.node, action, limit, collected).await
    }

    fn refused(
        &self,
        action: &'static str,
        metadata: impl IntoIterator<Item = Option<common::Metadata>>,
    ) -> Result<(), ApiError> {
        match metadata.into_iter().flatten().map(|metadata| metadata.error).find(|error| !error.is_empty()) {
            Some(message) => Err(ApiError::Other { node: self.node, action, message }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn seen(status: &Status) -> ApiError {
        ApiError::from_status([10, 5, 0, 2].into(), "bootstrap etcd", status)
    }

    #[test]
    fn a_connection_that_breaks_during_a_call_is_worth_another_try() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let error = seen(&Status::from_error(Box::new(reset)));
        assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");
        assert!(error.is_transient());
    }

    /// With TLS 1.3 the client learns only after its handshake that its certificate is refused.
    #[test]
    fn a_client_certificate_that_is_refused_late_is_a_lack_of_trust() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        let error = seen(&Status::from_error(Box::new(io::Error::other(alert))));
        assert!(matches!(error, ApiError::Tls { .. }), "{error:?}");
        assert!(!error.is_transient());
    }

    #[test]
    fn what_the_node_itself_says_is_told_in_its_words() {
        let error = seen(&Status::unknown("etcd data directory is not empty"));
        assert!(!error.is_transient());
        assert!(error.to_string().contains("etcd data directory is not empty"), "{error}");
        assert!(seen(&Status::failed_precondition("time is not in sync")).is_transient());
        let done = seen(&Status::already_exists("etcd"));
        assert!(matches!(done, ApiError::AlreadyExists { .. }), "{done:?}");
    }
}
