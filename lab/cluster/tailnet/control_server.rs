//! The control server: a headscale process, from configuration to shutdown.

mod calls;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lab_model::files::replace_file;
use lab_plan::tailnet::{AuthKey, ControlAccess};
use lab_vm::{
    network::HostPort,
    process::{Processes, SocketDirectory},
};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    ControlSpec, Programs, TailnetError, Transport,
    certificate::{server_certificate, tls_trusting},
    control_config::{Placement, SOCKET},
    daemon::{Daemon, command},
    error::file,
    saved_server::SavedControlServer,
};

/// The user that owns the keys and nodes of the run.
const USER: &str = "lab";
/// Time limit for the server to respond. On an idle host, it takes 0.5 s, including the database.
const PATIENCE: Duration = Duration::from_secs(60);
/// Number of attempts if another process takes the free port.
const PORT_ATTEMPTS: usize = 3;

/// The headscale server of a run. Drop stops the server and deletes its database and keys.
pub struct ControlServer {
    spec: ControlSpec,
    programs: Programs,
    processes: Processes,
    // Not in the run directory, because the database contains the pre-auth keys.
    private: SocketDirectory,
    public: PathBuf,
    listen: SocketAddr,
    stun: SocketAddr,
    authority: Option<String>,
    daemon: Mutex<Option<Daemon>>,
    user: u64,
    // Keys to redact from all output.
    issued: Mutex<Vec<AuthKey>>,
}

impl ControlServer {
    /// Starts a server and waits until it is healthy and its user exists. Creates `directory` for
    /// configuration, policy and log. Secrets are not in `directory`.
    ///
    /// # Errors
    /// When the server does not become healthy. The error quotes the end of its log.
    pub async fn start(
        spec: ControlSpec,
        programs: &Programs,
        processes: &Processes,
        directory: &Path,
    ) -> Result<Self, TailnetError> {
        lab_model::files::create_private_directory(directory).map_err(file("create", directory))?;
        let public = std::path::absolute(directory).map_err(file("resolve", directory))?;
        let mut attempt = 1;
        loop {
            let mut server = Self {
                spec: spec.clone(),
                programs: programs.clone(),
                processes: processes.clone(),
                private: SocketDirectory::create()
                    .map_err(file("create a directory in", Path::new("/tmp")))?,
                public: public.clone(),
                listen: free_tcp_port()?,
                stun: free_udp_port()?,
                authority: None,
                daemon: Mutex::default(),
                user: 0,
                issued: Mutex::default(),
            };
            server.write_configuration()?;
            match server.resume().await {
                Ok(()) => {
                    server.user = server.create_user(USER).await?.id;
                    return Ok(server);
                }
                // Another process can take a free port before the server binds it.
                Err(TailnetError::Ended { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts the server again after [`ControlServer::stop`], with the same addresses, users, keys and
    /// nodes. Does nothing if the server is running.
    ///
    /// # Errors
    /// The errors of [`ControlServer::start`].
    pub async fn resume(&self) -> Result<(), TailnetError> {
        if self.is_running() {
            return Ok(());
        }
        let mut command = self.headscale();
        command.arg("serve");
        let log = self.public.join("headscale.log");
        let daemon = Daemon::start("headscale", command, &log, self.private.path(), &self.processes).await?;
        daemon.until("its health endpoint", PATIENCE, &self.issued_keys(), || self.healthy()).await?;
        *self.daemon() = Some(daemon);
        Ok(())
    }

    /// Kills the server to simulate a crash. Keeps its state.
    pub async fn stop(&self) {
        let daemon = self.daemon().take();
        if let Some(daemon) = daemon {
            daemon.stop().await;
        }
    }

    /// Reports whether the server was started and not stopped.
    /// Returns the ports of the host's loopback that nodes use: the server with its relay, and STUN.
    pub fn ports(&self) -> [HostPort; 2] {
        [HostPort::Tcp(self.listen.port()), HostPort::Udp(self.stun.port())]
    }

    pub fn is_running(&self) -> bool {
        self.daemon().is_some()
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the access for cluster nodes.
    pub fn access_from_nodes(&self) -> ControlAccess {
        self.access(self.spec.seen_from_nodes)
    }

    /// Returns the access for processes on this host.
    pub fn access_from_host(&self) -> ControlAccess {
        self.access(Ipv4Addr::LOCALHOST)
    }

    fn access(&self, host: Ipv4Addr) -> ControlAccess {
        let url = self.spec.url(IpAddr::V4(host), self.listen.port());
        ControlAccess { url, authority: self.authority.clone() }
    }

    /// Redacts `key`, which the server did not issue, from all quoted output.
    pub fn keep_secret(&self, key: &AuthKey) {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
    }

    /// Removes the issued keys from `text`.
    pub fn redact(&self, text: String) -> String {
        self.issued_keys().iter().fold(text, |text, key| key.redact(&text))
    }

    /// Returns the end of the log, without keys.
    pub fn last_words(&self) -> String {
        self.daemon()
            .as_ref()
            .map_or_else(|| "it is stopped".to_owned(), |d| d.last_words(&self.issued_keys()))
    }

    /// Returns the issued keys. No output and no artefact may contain them.
    pub fn issued_keys(&self) -> Vec<AuthKey> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a headscale command with the configuration of this server.
    fn headscale(&self) -> Command {
        let mut command = command(&self.programs.headscale(), self.private.path());
        command.arg("--config").arg(self.config_path());
        command
    }

    fn config_path(&self) -> PathBuf {
        self.public.join("headscale.yaml")
    }

    pub(super) fn placement(&self) -> Placement<'_> {
        Placement { listen: self.listen, stun: self.stun, private: self.private.path(), public: &self.public }
    }

    /// Returns the number of the run's user in the database.
    pub(super) fn user(&self) -> u64 {
        self.user
    }

    fn write_configuration(&mut self) -> Result<(), TailnetError> {
        self.write_settings()?;
        if self.spec.transport == Transport::Https {
            let made = server_certificate(&[Ipv4Addr::LOCALHOST, self.spec.seen_from_nodes])?;
            let place = self.placement();
            write(&place.certificate(), &made.certificate)?;
            write(&place.certificate_key(), &made.key)?;
            write(&self.public.join("authority.crt"), &made.authority)?;
            self.authority = Some(made.authority);
        }
        Ok(())
    }

    fn write_settings(&self) -> Result<(), TailnetError> {
        let place = self.placement();
        write(&self.config_path(), &yaml(&self.spec.config(&place))?)?;
        write(&place.policy(), &json(&self.spec.policy(USER))?)?;
        write(&place.relay_map(), &yaml(&self.spec.relay_map(&place))?)
    }

    /// Starts a saved server at the addresses that its nodes know.
    pub(super) async fn taken_up(
        spec: ControlSpec,
        programs: &Programs,
        processes: &Processes,
        directory: &Path,
        saved: &SavedControlServer,
        from: &Path,
    ) -> Result<Self, TailnetError> {
        lab_model::files::create_private_directory(directory).map_err(file("create", directory))?;
        let server = Self {
            spec,
            programs: programs.clone(),
            processes: processes.clone(),
            private: SocketDirectory::create().map_err(file("create a directory in", Path::new("/tmp")))?,
            public: std::path::absolute(directory).map_err(file("resolve", directory))?,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, saved.listen)),
            stun: SocketAddr::from((Ipv4Addr::LOCALHOST, saved.stun)),
            authority: saved.authority.clone(),
            daemon: Mutex::default(),
            user: saved.user,
            issued: Mutex::default(),
        };
        saved.put_files(from, &server.placement())?;
        server.write_settings()?;
        server.resume().await?;
        Ok(server)
    }

    /// Checks the health endpoint. Returns the observed state if the server is not healthy.
    async fn healthy(&self) -> Result<(), String> {
        // Another server may have taken the port. The socket belongs to this server only.
        let socket = self.private.path().join(SOCKET);
        if !socket.exists() {
            return Err(format!("no socket {} yet", socket.display()));
        }
        let stream = TcpStream::connect(self.listen).await.map_err(|error| error.to_string())?;
        match &self.authority {
            None => ask_health(stream).await,
            Some(authority) => {
                let config = tls_trusting(Some(authority)).map_err(|error| error.to_string())?;
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
                ask_health(connector.connect(name, stream).await.map_err(|error| error.to_string())?).await
            }
        }
    }
}

impl fmt::Debug for ControlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlServer").field("listen", &self.listen).field("spec", &self.spec).finish()
    }
}

fn write(path: &Path, text: &str) -> Result<(), TailnetError> {
    replace_file(path, text.as_bytes()).map_err(file("write", path))
}

fn yaml(value: &impl serde::Serialize) -> Result<String, TailnetError> {
    serde_yaml::to_string(value).map_err(|problem| unwritable(&problem))
}

fn json(value: &impl serde::Serialize) -> Result<String, TailnetError> {
    serde_json::to_string_pretty(value).map_err(|problem| unwritable(&problem))
}

fn unwritable(problem: &dyn fmt::Display) -> TailnetError {
    TailnetError::Answer {
        program: "the lab",
        action: "write the control server's configuration".to_owned(),
        problem: problem.to_string(),
    }
}

/// Sends a request without an HTTP library. A full HTTP client with TLS is a large dependency for a status
/// line.
async fn ask_health(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), String> {
    let io = |error: std::io::Error| error.to_string();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .map_err(io)?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.map_err(io)?;
    match &start {
        b"HTTP/1.1 200" => Ok(()),
        other => Err(String::from_utf8_lossy(other).into_owned()),
    }
}

fn free_tcp_port() -> Result<SocketAddr, TailnetError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| TailnetError::Port { what: "the control server", source })
}

fn free_udp_port() -> Result<SocketAddr, TailnetError> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map_err(|source| TailnetError::Port { what: "STUN", source })
}
