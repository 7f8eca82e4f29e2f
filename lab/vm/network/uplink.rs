//! The connection of the LAN to the host: a QEMU without a machine, used for its user-mode NAT
//! (slirp).

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use lab_model::{
    files::create_private,
    network::{LanPlan, LanPlanError, address},
    node::NodeName,
};
use tokio::net::UnixListener;

use super::NetworkError;
use crate::{
    machine::{QemuBinary, Qmp},
    process::{ChildOptions, Process, Processes, SocketDirectory},
};

/// The maximum time until QEMU connects; 0.1 s on an idle host.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running uplink. Dropping it ends the process.
pub(super) struct Uplink {
    process: Process,
    qmp: Qmp,
    log: PathBuf,
}

/// A node's TCP port.
pub(super) type ForwardTarget = (Ipv4Addr, u16);

impl Uplink {
    /// Starts the uplink. Its LAN side connects to `lan_socket`.
    pub async fn start(
        plan: &LanPlan,
        qemu: &QemuBinary,
        sockets: &SocketDirectory,
        lan_socket: &Path,
        directory: &Path,
        processes: &Processes,
    ) -> Result<Self, NetworkError> {
        let failed = |action: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| NetworkError::File { action, path, source }
        };
        let log = directory.join("uplink.log");
        let stderr = create_private(&log).map_err(failed("write a log", &log))?;
        // No node name can be equal to this name.
        let qmp_socket = sockets.socket("uplink.qmp").map_err(failed("make a socket", sockets.path()))?;
        let listener = UnixListener::bind(&qmp_socket).map_err(failed("listen", &qmp_socket))?;
        let mut command = Command::new(&qemu.path);
        command
            .args(qemu.confinement())
            .args(arguments(plan, lan_socket, &qmp_socket)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let options = ChildOptions { sockets: Some(sockets.path()), ..ChildOptions::default() };
        let process = processes.spawn_with("uplink", command, options).await?;
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.map_err(failed("accept the uplink", &qmp_socket))?.0,
            status = process.wait() => return Err(ended(&status.to_string(), &log)),
            () = tokio::time::sleep(PATIENCE) => {
                return Err(NetworkError::UplinkSilent { seconds: PATIENCE.as_secs() });
            }
        };
        let (qmp, _) = Qmp::connect(stream, |_| {})
            .await
            .map_err(|source| NetworkError::Monitor { action: "talk to the monitor", source })?;
        Ok(Self { process, qmp, log })
    }

    /// The current host ports that QEMU forwards to nodes.
    pub async fn forwards(&self) -> Result<(HashMap<ForwardTarget, SocketAddr>, String), NetworkError> {
        let text = self
            .qmp
            .human("info usernet")
            .await
            .map_err(|source| NetworkError::Monitor { action: "list the forwarded ports", source })?;
        Ok((parse_forwards(&text), text))
    }

    /// Opens a free port on the host's loopback that forwards to `target`. Returns QEMU's output,
    /// which is empty on success.
    pub async fn forward(&self, target: ForwardTarget) -> Result<String, NetworkError> {
        self.qmp
            .human(format!("hostfwd_add slirp {}", rule(target)))
            .await
            .map_err(|source| NetworkError::Monitor { action: "forward a port", source })
    }

    /// Resolves when the uplink's QEMU ends.
    pub async fn ended(&self) -> NetworkError {
        let status = self.process.wait().await;
        ended(&status.to_string(), &self.log)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn ended(status: &str, log: &Path) -> NetworkError {
    let stderr = fs::read_to_string(log).unwrap_or_default();
    NetworkError::UplinkEnded { status: status.to_owned(), stderr: stderr.trim().replace('\n', " / ") }
}

/// QEMU's arguments: NAT and stream are on the same hub, and there is no machine. All planned
/// forwards use any free port (port 0), so two labs never conflict.
fn arguments(plan: &LanPlan, lan_socket: &Path, qmp_socket: &Path) -> Result<Vec<OsString>, NetworkError> {
    let [dns, dhcp] = address::spare_addresses(plan).ok_or_else(|| {
        NetworkError::Plan(LanPlanError {
            network: plan.network,
            reason: "slirp needs two spare addresses".to_owned(),
        })
    })?;
    let mut slirp = format!(
        "user,id=slirp,ipv6=off,net={},host={},dns={dns},dhcpstart={dhcp}",
        plan.network.trunc(),
        plan.gateway
    );
    for attachment in &plan.attachments {
        for port in &attachment.forwards {
            slirp.push_str(&format!(",hostfwd={}", rule((attachment.address, *port))));
        }
    }
    let path = |path: &Path| path.to_string_lossy().replace(',', ",,");
    Ok([
        "-name".to_owned(),
        "uplink".to_owned(),
        "-M".to_owned(),
        "none".to_owned(),
        "-nodefaults".to_owned(),
        "-no-user-config".to_owned(),
        "-display".to_owned(),
        "none".to_owned(),
        "-netdev".to_owned(),
        slirp,
        "-netdev".to_owned(),
        "hubport,id=slirp-port,hubid=0,netdev=slirp".to_owned(),
        "-netdev".to_owned(),
        format!("stream,id=lan,server=off,addr.type=unix,addr.path={}", path(lan_socket)),
        "-netdev".to_owned(),
        "hubport,id=lan-port,hubid=0,netdev=lan".to_owned(),
        "-chardev".to_owned(),
        format!("socket,id=qmp,server=off,path={}", path(qmp_socket)),
        "-mon".to_owned(),
        "chardev=qmp,mode=control".to_owned(),
    ]
    .map(OsString::from)
    .to_vec())
}

fn rule((address, port): ForwardTarget) -> String {
    format!("tcp:127.0.0.1:0-{address}:{port}")
}

/// Parses the table of `info usernet`: protocol and state, descriptor, host address and port, node
/// address and port, queues. Lines of active connections have other states.
fn parse_forwards(text: &str) -> HashMap<ForwardTarget, SocketAddr> {
    let forward = |line: &str| {
        let mut fields = line.trim().strip_prefix("TCP[HOST_FORWARD]")?.split_whitespace().skip(1);
        let host: Ipv4Addr = fields.next()?.parse().ok()?;
        let host_port = fields.next()?.parse().ok()?;
        let node = fields.next()?.parse().ok()?;
        let node_port = fields.next()?.parse().ok()?;
        Some(((node, node_port), SocketAddr::V4(SocketAddrV4::new(host, host_port))))
    };
    text.lines().filter_map(forward).collect()
}

/// The forwards of a plan by node, from QEMU's report.
pub(super) fn assign(
    plan: &LanPlan,
    reported: &HashMap<ForwardTarget, SocketAddr>,
    seen: &str,
) -> Result<HashMap<(NodeName, u16), SocketAddr>, NetworkError> {
    let wanted = plan
        .attachments
        .iter()
        .flat_map(|attachment| attachment.forwards.iter().map(move |port| (attachment, *port)));
    wanted
        .map(|(attachment, port)| {
            let node = attachment.node.clone();
            match reported.get(&(attachment.address, port)) {
                Some(host) => Ok(((node, port), *host)),
                None => Err(NetworkError::Forward { node, port, seen: seen.trim().to_owned() }),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_name_no_host_port_and_no_address_of_a_node() {
        let mut plan = LanPlan::for_tests(2);
        plan.attachments[0].forwards = vec![6443, 50_000];
        let arguments =
            arguments(&plan, Path::new("/tmp/lab-1/uplink"), Path::new("/tmp/lab-1/qmp")).unwrap();
        let text: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn the_usernet_table_of_qemu_is_read() {
        let text = "Hub 0 (slirp):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]  12       127.0.0.1 40455        10.5.0.3 50000     0     0\r\n  \
                    TCP[ESTABLISHED]   13       127.0.0.1 40455        10.5.0.3 50000     0     0\r\n  \
                    TCP[HOST_FORWARD]   8       127.0.0.1 45411        10.5.0.2  6443     0     0\r\n";
        let forwards = parse_forwards(text);
        assert_eq!(forwards.len(), 2);
        assert_eq!(forwards[&(Ipv4Addr::new(10, 5, 0, 2), 6443)], "127.0.0.1:45411".parse().unwrap());
    }

    #[test]
    fn a_forward_that_qemu_does_not_report_is_an_error() {
        let mut plan = LanPlan::for_tests(1);
        plan.attachments[0].forwards = vec![6443];
        let error = assign(&plan, &HashMap::new(), "nothing").unwrap_err().to_string();
        assert_eq!(error, "no host port leads to node-1's port 6443: QEMU said \"nothing\"");
    }
}
