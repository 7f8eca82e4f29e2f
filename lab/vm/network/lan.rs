//! The running LAN.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use lab_model::{events::Recorder, files::create_private_directory, network::LanPlan, node::NodeName};
use tokio::{net::UnixListener, sync::oneshot};

use super::{
    Egress, HostPort, LanCounters, NetworkError,
    port::Mark,
    switch::Switch,
    uplink::{self, Uplink},
};
use crate::{
    machine::QemuBinary,
    process::{Processes, SocketDirectory},
};

/// The running LAN: switch, services and uplink. Dropping it stops all parts. Fault injection is in
/// `disturbing`.
pub struct Lan {
    plan: LanPlan,
    pub(super) switch: Arc<Switch>,
    pub(super) directory: PathBuf,
    sockets_by_node: HashMap<NodeName, PathBuf>,
    forwards: Mutex<HashMap<(NodeName, u16), SocketAddr>>,
    uplink: Uplink,
    _running: Running,
    sockets: SocketDirectory,
}

/// The switch's thread; dropping this value ends the thread.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Lan {
    /// Starts the switch and the uplink and opens the planned forwards. The uplink's log is in
    /// `directory`.
    ///
    /// # Errors
    /// Fails if the plan is inconsistent, or if a socket, the uplink or a forward cannot be created.
    pub fn start<'a>(
        plan: LanPlan,
        qemu: &'a QemuBinary,
        directory: &'a Path,
        processes: &'a Processes,
        recorder: Recorder,
    ) -> BoxFuture<'a, Result<Self, NetworkError>> {
        Self::start_switch(plan, qemu, directory, processes, recorder).boxed()
    }

    async fn start_switch(
        plan: LanPlan,
        qemu: &QemuBinary,
        directory: &Path,
        processes: &Processes,
        recorder: Recorder,
    ) -> Result<Self, NetworkError> {
        plan.check()?;
        create_private_directory(directory).map_err(failed("make a directory", directory))?;
        let sockets =
            SocketDirectory::create().map_err(failed("make a socket directory", Path::new("/tmp")))?;
        let switch = Arc::new(Switch::new(&plan, recorder));

        let mut listeners = Vec::new();
        let mut sockets_by_node = HashMap::new();
        for (index, attachment) in plan.attachments.iter().enumerate() {
            // Uses a number, because a node name may be too long for a socket path.
            let path = bind(&sockets, &format!("port-{index}"), &mut listeners)?;
            sockets_by_node.insert(attachment.node.clone(), path);
        }
        let uplink_socket = bind(&sockets, "uplink", &mut listeners)?;
        let running = Running::start(Arc::clone(&switch), listeners)
            .map_err(failed("start the switch", sockets.path()))?;

        let uplink = Uplink::start(&plan, qemu, &sockets, &uplink_socket, directory, processes).await?;
        let (reported, seen) = uplink.forwards().await?;
        let forwards = Mutex::new(uplink::assign(&plan, &reported, &seen)?);
        let directory = directory.to_owned();
        Ok(Self { plan, switch, directory, sockets_by_node, forwards, uplink, _running: running, sockets })
    }

    pub fn plan(&self) -> &LanPlan {
        &self.plan
    }

    /// The socket for a node's `-netdev stream`. Accepts one VM at a time; the next VM can connect
    /// when the previous VM is gone.
    pub fn socket(&self, node: &NodeName) -> Option<&Path> {
        self.sockets_by_node.get(node).map(PathBuf::as_path)
    }

    /// The address on the host's loopback that forwards to a node's TCP port. It accepts connections
    /// as soon as the LAN is up, even if the node does not listen. In that case the connection is
    /// reset after it was accepted.
    pub fn forward(&self, node: &NodeName, guest_port: u16) -> Option<SocketAddr> {
        let forwards = self.forwards.lock().unwrap_or_else(PoisonError::into_inner);
        forwards.get(&(node.clone(), guest_port)).copied()
    }

    /// Opens a forward, or returns the existing forward.
    ///
    /// # Errors
    /// Fails if the node is unknown or QEMU returns an error.
    pub async fn add_forward(&self, node: &NodeName, guest_port: u16) -> Result<SocketAddr, NetworkError> {
        if let Some(known) = self.forward(node, guest_port) {
            return Ok(known);
        }
        let attachment = self.plan.attachments.iter().find(|attachment| attachment.node == *node);
        let address = attachment.ok_or_else(|| NetworkError::UnknownNode { node: node.clone() })?.address;
        let refusal = self.uplink.forward((address, guest_port)).await?;
        let (reported, table) = self.uplink.forwards().await?;
        let Some(host) = reported.get(&(address, guest_port)).copied() else {
            let seen = if refusal.trim().is_empty() { table } else { refusal };
            return Err(NetworkError::Forward {
                node: node.clone(),
                port: guest_port,
                seen: seen.trim().to_owned(),
            });
        };
        let mut forwards = self.forwards.lock().unwrap_or_else(PoisonError::into_inner);
        forwards.insert((node.clone(), guest_port), host);
        Ok(host)
    }

    /// Adds a DNS name for an address, e.g. `registry` for the gateway. A name without a dot is also
    /// available under the LAN's domain.
    pub fn add_name(&self, name: &str, address: Ipv4Addr) {
        self.switch.services.add_name(name, address);
    }

    /// Lets nodes reach a port of the host's loopback at the gateway address. All others are closed.
    pub fn serve(&self, port: HostPort) {
        self.switch.gateway_ports.serve(port);
    }

    /// Redirects connections from nodes to the gateway's TCP port `asked` to the host's port `real`, and serves it.
    pub fn redirect(&self, asked: u16, real: u16) {
        self.serve(HostPort::Tcp(asked));
        self.switch.redirect.set(asked, real);
    }

    /// Sets whether UDP passes between a node and destinations beyond the LAN. `false` simulates a
    /// firewall that only allows outgoing TCP; the LAN's own name and time services remain available.
    /// An unknown node has no effect.
    pub fn set_datagrams(&self, node: &NodeName, pass: bool) {
        if let Some(port) = self.switch.port_of(node) {
            port.mark(Mark::NoDatagrams, !pass);
        }
    }

    /// Makes the LAN's time server return a time ahead of the host's to a node. An unknown node has
    /// no effect.
    pub fn set_time_ahead(&self, node: &NodeName, ahead: Duration) {
        if let Some(attachment) = self.plan.attachments.iter().find(|attachment| attachment.node == *node) {
            self.switch.services.set_time_ahead(attachment.mac, ahead);
        }
    }

    /// Sets whether nodes can reach destinations beyond the LAN. The default is that they cannot.
    pub fn set_egress(&self, egress: Egress) {
        self.switch.set_egress(egress);
    }

    /// The directory of the LAN's own sockets. It is private and short, and is removed with the LAN.
    /// The next lab removes the directory of a killed lab.
    pub fn sockets(&self) -> &SocketDirectory {
        &self.sockets
    }

    /// A snapshot of all counters.
    pub fn counters(&self) -> LanCounters {
        self.switch.counters()
    }

    /// Resolves when the uplink ends, because host and nodes cannot reach each other without it;
    /// never otherwise. Any number of tasks can wait.
    pub async fn failure(&self) -> NetworkError {
        self.uplink.ended().await
    }

    /// The process ID of the uplink's QEMU.
    pub fn uplink_pid(&self) -> u32 {
        self.uplink.pid()
    }
}

impl Running {
    /// The switch runs on a separate thread, so that a busy or blocked runtime of the caller does not
    /// delay the guests' packets, and so that the tasks of the switch never contend for its locks.
    fn start(switch: Arc<Switch>, listeners: Vec<StdListener>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners = {
            let _context = runtime.enter();
            listeners.into_iter().map(UnixListener::from_std).collect::<io::Result<Vec<_>>>()?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("switch".to_owned()).spawn(move || {
            let (repeating, delaying) = (Arc::clone(&switch), Arc::clone(&switch));
            let ports = listeners.into_iter().enumerate().map(|(index, listener)| {
                let switch = Arc::clone(&switch);
                serve_port(switch, index, listener)
            });
            let ports: Vec<_> = ports.collect();
            runtime.block_on(async {
                for port in ports {
                    tokio::spawn(port);
                }
                tokio::spawn(async move { repeating.repeat_handshakes().await });
                tokio::spawn(async move { delaying.bring_delayed().await });
                // Ends when the sender is dropped; the end of the runtime then ends the tasks.
                let _ = stopped.await;
            });
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

async fn serve_port(switch: Arc<Switch>, index: usize, listener: UnixListener) {
    let forward = |frame: &[u8]| switch.receive(index, frame);
    let greet = || switch.greet(index);
    if let Err(error) = switch.port(index).serve(listener, greet, forward).await {
        let name = switch.port(index).name();
        let text = format!(
            "the switch port of {name} does not listen any more: {error}; a QEMU that is started for it from now on has \
             no network"
        );
        switch.note(index, text);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has already been printed, so the result is ignored.
            let _ = thread.join();
        }
    }
}

fn bind(
    sockets: &SocketDirectory,
    name: &str,
    listeners: &mut Vec<StdListener>,
) -> Result<PathBuf, NetworkError> {
    let path = sockets.socket(name).map_err(failed("make a socket", sockets.path()))?;
    let listener = StdListener::bind(&path)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(failed("listen", &path))?;
    listeners.push(listener);
    Ok(path)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetworkError {
    let path = path.to_owned();
    move |source| NetworkError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::{fd::OwnedFd, unix::net::UnixStream},
    };

    use super::*;
    use lab_model::events::{EventKind, Subject};

    #[tokio::test]
    async fn a_port_that_cannot_listen_any_more_is_told() {
        // A socket that does not listen and has data to read, so accept returns an error.
        let (socket, mut other) = UnixStream::pair().expect("sockets");
        other.write_all(b"x").expect("write");
        let listener = StdListener::from(OwnedFd::from(socket));
        listener.set_nonblocking(true).expect("non-blocking");
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        let switch = Arc::new(Switch::new(&LanPlan::for_tests(1), recorder));
        serve_port(switch, 0, UnixListener::from_std(listener).expect("listener")).await;
        let kind = events.try_recv().map(|event| event.kind);
        let Ok(EventKind::Note { subject: Subject::Node(node), text }) = kind else {
            panic!("{kind:?}");
        };
        assert!(node.as_str() == "node-1" && text.contains("the switch port of node-1"), "{text}");
    }
}
