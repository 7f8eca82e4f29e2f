//! The control server: one headscale, from its configuration to its end.

mod calls;

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lab_model::files::replace_file;
use lab_plan::tailnet::{AuthKey, ControlAccess};
use lab_vm::process::{Processes, SocketDirectory};
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

/// The user who owns the run's keys and nodes.
const USER: &str = "lab";
/// How long it may take to answer; 0.5 s on an idle host, its database included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often another port is tried when somebody else took the one that was free.
const PORT_ATTEMPTS: usize = 3;

/// A headscale of this run. Dropping it ends it and removes its database and keys.
pub struct ControlServer {
    spec: ControlSpec,
    programs: Programs,
    processes: Processes,
    // Here rather than in the run directory, because the database holds the pre-auth keys.
    private: SocketDirectory,
    public: PathBuf,
    listen: SocketAddr,
    stun: SocketAddr,
    authority: Option<String>,
    daemon: Mutex<Option<Daemon>>,
    user: u64,
    // Which keys must never be seen in what it writes.
    issued: Mutex<Vec<AuthKey>>,
}

impl ControlServer {
    /// Starts one and waits until it is healthy and its user exists. Configuration, policy and log
    /// go to `directory`, which is made; secrets do not.
    ///
    /// # Errors
    /// When it does not get there; its last words are quoted.
    pub async fn start(
        spec: ControlSpec,
        programs: &Programs,
        processes: &Processes,
        directory: &Path,
    ) -> Result<Self, TailnetError> {
        fs::create_dir_all(directory).map_err(file("create", directory))?;
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
                // A port is only known to be free at the moment it was asked for.
                Err(TailnetError::Ended { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts it again after [`ControlServer::stop`], with the same addresses, users, keys and
    /// nodes. Nothing happens when it runs.
    ///
    /// # Errors
    /// As [`ControlServer::start`].
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

    /// Takes it down at once, as a crash would; its state is kept.
    pub async fn stop(&self) {
        let daemon = self.daemon().take();
        if let Some(daemon) = daemon {
            daemon.stop().await;
        }
    }

    /// Whether it was started and not stopped.
    pub fn is_running(&self) -> bool {
        self.daemon().is_some()
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How cluster nodes reach it.
    pub fn access_from_nodes(&self) -> ControlAccess {
        self.access(self.spec.seen_from_nodes)
    }

    /// How processes on this host reach it.
    pub fn access_from_host(&self) -> ControlAccess {
        self.access(Ipv4Addr::LOCALHOST)
    }

    fn access(&self, host: Ipv4Addr) -> ControlAccess {
        let url = self.spec.url(IpAddr::V4(host), self.listen.port());
        ControlAccess { url, authority: self.authority.clone() }
    }

    /// Takes `key`, which came from elsewhere, out of everything that is quoted from the server.
    pub fn keep_secret(&self, key: &AuthKey) {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
    }

    /// `text` without the keys that it issued.
    pub fn redact(&self, text: String) -> String {
        self.issued_keys().iter().fold(text, |text, key| key.redact(&text))
    }

    /// The end of its log, without keys.
    pub fn last_words(&self) -> String {
        self.daemon()
            .as_ref()
            .map_or_else(|| "it is stopped".to_owned(), |d| d.last_words(&self.issued_keys()))
    }

    /// The keys that it issued: what nothing it writes, and no artefact, may show.
    pub fn issued_keys(&self) -> Vec<AuthKey> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its command, with this server's configuration.
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

    /// The number of the run's own user in its database.
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

    /// A server that was saved, up again at the addresses that its nodes know.
    pub(super) async fn taken_up(
        spec: ControlSpec,
        programs: &Programs,
        processes: &Processes,
        directory: &Path,
        saved: &SavedControlServer,
        from: &Path,
    ) -> Result<Self, TailnetError> {
        fs::create_dir_all(directory).map_err(file("create", directory))?;
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

    /// Asks the health endpoint; says what it saw when that is not health.
    async fn healthy(&self) -> Result<(), String> {
        // Another server might have taken the port; the socket can only be this one's.
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

/// One request by hand: a whole HTTP client with TLS would be a large dependency for a status line.
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
