//! The authenticated API of a configured node.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{Stream, StreamExt};
use lab_model::visible;
use lab_plan::{cluster::ImageNamespace, config::Credentials};
use tonic::{Response, Status, transport::Channel};

use super::{
    answers::{
        BootReason, ProcessInfo, RESTART, ServiceHealth, ServiceState, VersionInfo, is_service_id,
        keeps_restarting,
    },
    api_error::{ApiError, limited},
    kubeconfig_archive::kubeconfig_in,
    maintenance::{ApplyMode, apply, machine_status},
    resources::{MachineStatus, Resource},
    tls,
    wire::{
        common,
        machine::{
            BootstrapRequest, DmesgRequest, ImageListRequest, ImagePullRequest, LogsRequest, ReadRequest,
            RebootRequest, ShutdownRequest, machine_service_client::MachineServiceClient, reboot_request,
        },
        resource::{EventType, ListRequest, WatchOptions, WatchRequest, state_client::StateClient},
        time::time_service_client::TimeServiceClient,
    },
};

/// The largest message of a node, in bytes. Lists of processes and services have some hundred kilobytes.
const LARGEST_MESSAGE: usize = 16 << 20;
/// The largest stream of a node that is collected, in bytes: a log, a file, a list.
const LARGEST_STREAM: usize = 32 << 20;
/// The maximum number of messages of a collected stream.
const MOST_MESSAGES: usize = 200_000;
/// The longest text of a node in an error, in characters.
const SHOWN: usize = 200;

fn moment(timestamp: common::Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(timestamp.seconds, timestamp.nanos).ok()
}

/// Refuses a stream that does not end.
fn within_stream(messages: usize, bytes: usize) -> Result<(), Status> {
    if bytes <= LARGEST_STREAM && messages < MOST_MESSAGES {
        return Ok(());
    }
    let most = LARGEST_STREAM >> 20;
    Err(Status::unknown(format!("its answer has more than {most} MiB or {MOST_MESSAGES} messages")))
}

/// A mutually authenticated connection to one node.
#[derive(Clone)]
pub struct NodeClient {
    node: IpAddr,
    channel: Channel,
}

impl NodeClient {
    /// Connects to `via` and verifies that the node with address `node` answers.
    ///
    /// # Errors
    /// [`ApiError::Tls`] when one side does not trust the other, [`ApiError::Unreachable`] when the node
    /// does not answer.
    pub async fn connect(via: SocketAddr, node: IpAddr, credentials: &Credentials) -> Result<Self, ApiError> {
        let channel = tls::connect(tls::mutual(credentials)?, via, node).await?;
        Ok(Self { node, channel })
    }

    pub(super) fn machine(&self) -> MachineServiceClient<Channel> {
        MachineServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_MESSAGE)
    }

    /// Returns the time of the node's clock.
    ///
    /// # Errors
    /// When the call fails or the reply contains no time.
    pub async fn time(&self, limit: Duration) -> Result<jiff::Timestamp, ApiError> {
        let action = "report its time";
        let mut client = TimeServiceClient::new(self.channel.clone());
        let reply = limited(self.node, action, limit, client.time(())).await?;
        let time = reply.messages.into_iter().next().and_then(|message| message.localtime);
        time.and_then(moment).ok_or_else(|| ApiError::Other {
            node: self.node,
            action,
            message: "the answer contains no time".into(),
        })
    }

    /// Returns the software version of the node.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn version(&self, limit: Duration) -> Result<VersionInfo, ApiError> {
        VersionInfo::ask(self.channel.clone(), self.node, limit).await
    }

    /// Bootstraps an etcd cluster. Call this on exactly one control plane node.
    ///
    /// # Errors
    /// [`ApiError::NotYet`] while the node is not ready for the bootstrap, [`ApiError::AlreadyExists`] when
    /// etcd is already bootstrapped.
    pub async fn bootstrap(&self, limit: Duration) -> Result<(), ApiError> {
        let mut client = self.machine();
        let reply =
            limited(self.node, "bootstrap etcd", limit, client.bootstrap(BootstrapRequest::default()))
                .await?;
        self.refused("bootstrap etcd", reply.messages.into_iter().map(|message| message.metadata))
    }

    /// Returns the administrator's kubeconfig. The node sends a stream of a tar.gz archive.
    ///
    /// # Errors
    /// When the call fails or the archive contains no kubeconfig.
    pub async fn kubeconfig(&self, limit: Duration) -> Result<String, ApiError> {
        let action = "return the kubeconfig";
        let mut client = self.machine();
        let archive = self.bytes(action, limit, client.kubeconfig(())).await?;
        let bad = |message: String| ApiError::Other { node: self.node, action, message };
        kubeconfig_in(&archive).map_err(|error| bad(format!("the archive is invalid: {error}")))
    }

    /// Lists all services and their states.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn services(&self, limit: Duration) -> Result<Vec<ServiceState>, ApiError> {
        let mut client = self.machine();
        let reply = limited(self.node, "list its services", limit, client.service_list(())).await?;
        let services: Vec<_> = reply.messages.into_iter().flat_map(|message| message.services).collect();
        if let Some(service) = services.iter().find(|service| !is_service_id(&service.id)) {
            let message = format!("\"{}\" is not the id of a service", visible(&service.id, SHOWN));
            return Err(ApiError::Other { node: self.node, action: "list its services", message });
        }
        let now = jiff::Timestamp::now();
        Ok(services
            .into_iter()
            .map(|service| {
                let health = service.health.unwrap_or_default();
                let events = service.events.map(|events| events.events).unwrap_or_default();
                let ends: Vec<_> = events.iter().filter(|event| event.msg.contains(RESTART)).collect();
                // An event without a timestamp may be recent.
                let moments: Vec<_> =
                    ends.iter().map(|event| event.ts.and_then(moment).unwrap_or(now)).collect();
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
                    keeps_restarting: keeps_restarting(&moments, now),
                    message: events.last().map(|event| event.msg.clone()).unwrap_or_default(),
                }
            })
            .collect())
    }

    /// Lists all processes.
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

    /// Lists the names of the container images on the node, for pods and for the node's own containers. An
    /// empty list means that the node has no images.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn images(&self, limit: Duration) -> Result<Vec<String>, ApiError> {
        let mut names = Vec::new();
        for namespace in [common::ContainerdNamespace::NsSystem, common::ContainerdNamespace::NsCri] {
            let request = ImageListRequest { namespace: namespace.into() };
            let mut client = self.machine();
            let call = client.image_list(request);
            let images =
                self.collect("list its images", limit, call, |image| image.metadata.as_ref()).await?;
            names.extend(images.into_iter().map(|image| image.name));
        }
        Ok(names)
    }

    /// Makes the node pull and unpack a container image. Returns when it is there; an image that is there already is not
    /// pulled again.
    ///
    /// # Errors
    /// When the call fails: [`ApiError::NotYet`] or [`ApiError::Unreachable`] while containerd does not run yet.
    pub async fn pull_image(
        &self,
        namespace: ImageNamespace,
        reference: &str,
        limit: Duration,
    ) -> Result<(), ApiError> {
        let namespace = match namespace {
            ImageNamespace::System => common::ContainerdNamespace::NsSystem,
            ImageNamespace::Cri => common::ContainerdNamespace::NsCri,
        };
        let request = ImagePullRequest { namespace: namespace.into(), reference: reference.to_owned() };
        let mut client = self.machine();
        let action = "pull an image";
        let reply = limited(self.node, action, limit, client.image_pull(request)).await?;
        self.refused(action, reply.messages.into_iter().map(|message| message.metadata))
    }

    /// Returns the last `lines` lines of a service's log.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn logs(&self, service: &str, lines: i32, limit: Duration) -> Result<String, ApiError> {
        let request =
            LogsRequest { namespace: "system".into(), id: service.into(), follow: false, tail_lines: lines };
        let mut client = self.machine();
        let bytes = self.bytes("send a log", limit, client.logs(request)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the contents of a file on the node.
    ///
    /// # Errors
    /// When the call fails, for example when `path` is not a regular file.
    pub async fn read_file(&self, path: &str, limit: Duration) -> Result<String, ApiError> {
        let mut client = self.machine();
        let request = ReadRequest { path: path.into() };
        let bytes = self.bytes("send a file", limit, client.read(request)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the kernel log.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn dmesg(&self, limit: Duration) -> Result<String, ApiError> {
        let mut client = self.machine();
        let request = DmesgRequest { follow: false, tail: false };
        let bytes = self.bytes("send the kernel's messages", limit, client.dmesg(request)).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends a machine config and returns the node's warnings.
    ///
    /// # Errors
    /// [`ApiError::InvalidConfig`] with the node's message when the node rejects the config.
    pub async fn apply_configuration(
        &self,
        yaml: &str,
        mode: ApplyMode,
        limit: Duration,
    ) -> Result<Vec<String>, ApiError> {
        apply(self.channel.clone(), self.node, yaml, mode, false, limit).await
    }

    /// Reboots the node.
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

    /// Powers off the node, without a drain of its pods.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), ApiError> {
        let mut client = self.machine();
        let reply =
            limited(self.node, "shut down", limit, client.shutdown(ShutdownRequest { force: true })).await?;
        self.refused("shut down", reply.messages.into_iter().map(|message| message.metadata))
    }

    /// Returns the stage and the conditions of the machine.
    ///
    /// # Errors
    /// When the call fails or the reply has an unexpected shape.
    pub async fn machine_status(&self, limit: Duration) -> Result<MachineStatus, ApiError> {
        machine_status(self.channel.clone(), self.node, limit).await
    }

    /// Lists all resources of a type.
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
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(reply) = stream.message().await? {
                bytes += prost::Message::encoded_len(&reply);
                within_stream(found.len(), bytes)?;
                found.extend(reply.resource.map(Resource::from_wire));
            }
            Ok(Response::new(found))
        };
        limited(self.node, action, limit, listed).await
    }

    /// Watches the resources of a type: the existing resources first, then each creation and update. An
    /// error is the last item: the connection broke, or the node ended the watch.
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

    /// Collects the bytes of a data stream.
    async fn bytes(
        &self,
        action: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<Response<tonic::Streaming<common::Data>>, Status>>,
    ) -> Result<Vec<u8>, ApiError> {
        let pieces = self.collect(action, limit, call, |data| data.metadata.as_ref()).await?;
        Ok(pieces.into_iter().flat_map(|data| data.bytes).collect())
    }

    /// Collects all messages of a stream. Fails if a message reports an error of the node.
    pub(super) async fn collect<M: prost::Message>(
        &self,
        action: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<Response<tonic::Streaming<M>>, Status>>,
        metadata: impl Fn(&M) -> Option<&common::Metadata>,
    ) -> Result<Vec<M>, ApiError> {
        let collected = async {
            let mut stream = call.await?.into_inner();
            let (mut messages, mut bytes) = (Vec::new(), 0);
            while let Some(message) = stream.message().await? {
                bytes += message.encoded_len();
                within_stream(messages.len(), bytes)?;
                if let Some(failed) = metadata(&message).filter(|metadata| !metadata.error.is_empty()) {
                    return Err(Status::unknown(failed.error.clone()));
                }
                messages.push(message);
            }
            Ok(Response::new(messages))
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
