//! The outside client: the official tailscaled on this host, in user-space mode, which needs neither root
//! nor a tun device. Everything that enters the tailnet through it passes a unix socket that only this user can open:
//! the lab's own requests its local API, and programs of the user the SOCKS5 proxy of the lab.

mod login;
mod proxy;
mod traffic;

use std::{
    fmt, fs,
    net::IpAddr,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::stream;
use ipnet::IpNet;
use lab_plan::tailnet::{AuthKey, ControlAccess};
use lab_vm::process::{Processes, SocketDirectory};

use super::{
    Programs, TailnetError,
    client_status::{ClientStatus, Pong, Preferences},
    daemon::{Daemon, command, redacted},
    error::file,
    local_api::LocalApi,
};
use crate::wait::{PollError, Wait};
use proxy::Proxy;

/// Time limit for the daemon to respond; 0.3 s on an idle host.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time after which a ping counts as lost.
const PING_AGAIN: Duration = Duration::from_secs(2);
/// Polling interval; the daemon sends no notification for some changes (a peer that goes offline).
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The configuration of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpec {
    /// Its host name in the tailnet, also its name in messages and file names.
    pub hostname: String,
    /// Whether it uses routes of other nodes.
    pub accept_routes: bool,
    /// Routes that it advertises.
    pub advertise_routes: Vec<IpNet>,
    /// Whether it may send to other nodes directly. If not, all traffic goes through the relay.
    pub paths: Paths,
}

/// The paths that a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// Direct where possible, otherwise the relay.
    Any,
    /// The relay only; needs a control server that speaks HTTPS.
    RelayOnly,
}

impl ClientSpec {
    /// A client that accepts routes and advertises none.
    pub fn accepting(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            accept_routes: true,
            advertise_routes: Vec::new(),
            paths: Paths::Any,
        }
    }
}

/// A running client. Drop stops the client and deletes its node key.
pub struct OutsideClient {
    spec: ClientSpec,
    access: ControlAccess,
    programs: Programs,
    // Holds its node key and, during login, the auth key.
    private: SocketDirectory,
    daemon: Daemon,
    api: LocalApi,
    proxy: Proxy,
    keys: Mutex<Vec<AuthKey>>,
}

impl OutsideClient {
    /// Starts the daemon without a login; creates `directory` for its log.
    ///
    /// # Errors
    /// When the daemon does not respond; the error quotes the end of its log.
    pub async fn start(
        spec: ClientSpec,
        access: &ControlAccess,
        programs: &Programs,
        processes: &Processes,
        directory: &Path,
    ) -> Result<Self, TailnetError> {
        lab_model::files::create_private_directory(directory).map_err(file("create", directory))?;
        let private = SocketDirectory::create().map_err(file("create a directory in", Path::new("/tmp")))?;
        let socket = private.socket("tailscaled.sock").map_err(file("make a socket in", private.path()))?;
        let mut command = command(&programs.tailscaled(), private.path());
        command
            // Port 0 selects any free UDP port.
            .args(["--tun=userspace-networking", "--port=0"])
            .arg(format!("--statedir={}", private.path().display()))
            .arg(format!("--socket={}", socket.display()))
            .arg("--no-logs-no-support")
            // Otherwise, as root, it stores the identity of its log in /var/lib.
            .env("TS_LOGS_DIR", private.path())
            .envs(SWITCHED_OFF);
        if access.url != TAILSCALE {
            command.env("TS_PANIC_IF_HIT_MAIN_CONTROL", "true");
        }
        if spec.paths == Paths::RelayOnly {
            command.env("TS_DEBUG_NEVER_DIRECT_UDP", "true");
        }
        match &access.authority {
            // The client does not connect to the relay without TLS. Without TLS, a client that cannot reach
            // its relay would look for the cause elsewhere; plain HTTP avoids that.
            None if access.url.starts_with("http:") => command.env("TS_DEBUG_USE_DERP_HTTP", "1"),
            None => &mut command,
            Some(authority) => {
                let path = private.path().join("authority.crt");
                fs::write(&path, authority).map_err(file("write", &path))?;
                // Go programs trust these certificates instead of the system's.
                command.env("SSL_CERT_FILE", &path).env("SSL_CERT_DIR", private.path())
            }
        };
        let program = format!("tailscaled-{}", spec.hostname);
        let log = directory.join(format!("{program}.log"));
        let daemon = Daemon::start(&program, command, &log, private.path(), processes).await?;
        let api = LocalApi::new(&spec.hostname, &socket)?;
        daemon
            .until("its local API", PATIENCE, &[], || async {
                api.status().await.map_err(|error| error.to_string())
            })
            .await?;
        let socket = private.socket("proxy.sock").map_err(file("make a socket in", private.path()))?;
        let proxy = Proxy::start(api.clone(), &socket).map_err(file("listen at", &socket))?;
        Ok(Self {
            spec,
            access: access.clone(),
            programs: programs.clone(),
            private,
            daemon,
            api,
            proxy,
            keys: Mutex::default(),
        })
    }

    /// The current status.
    ///
    /// # Errors
    /// When the daemon does not respond.
    pub async fn status(&self) -> Result<ClientStatus, TailnetError> {
        self.api.status().await
    }

    /// The current preferences.
    ///
    /// # Errors
    /// When the daemon does not respond.
    pub async fn preferences(&self) -> Result<Preferences, TailnetError> {
        self.api.preferences().await
    }

    /// Waits until the status meets `condition`.
    ///
    /// # Errors
    /// At the deadline, with the last status, or when the daemon exits.
    pub async fn wait_for(
        &self,
        awaited: &str,
        patience: Duration,
        condition: impl Fn(&ClientStatus) -> bool,
    ) -> Result<ClientStatus, TailnetError> {
        let changes = stream::unfold(self.api.changes().await?, async |mut changes| {
            changes.next().await.then_some(((), changes))
        });
        let wanted =
            |status: &ClientStatus| if condition(status) { Ok(()) } else { Err(format!("{status:?}")) };
        let keys = self.keys();
        let wait = Wait::up_to(patience).every(LOOK_EVERY);
        tokio::select! {
            status = wait.poll_woken(changes, || self.status(), wanted) => match status {
                Ok(status) => Ok(status),
                Err(PollError::Probe(error)) => Err(error),
                Err(PollError::Expired(expired)) => Err(TailnetError::Late {
                    program: format!("tailscaled-{}", self.spec.hostname),
                    awaited: awaited.to_owned(),
                    seconds: patience.as_secs(),
                    seen: redacted(expired.last, &self.keys()),
                    log: self.last_words(),
                }),
            },
            ended = self.daemon.ended(&keys) => Err(ended),
        }
    }

    /// Pings a node, or an address behind a subnet router, with Tailscale's own packets. The result shows
    /// the path, not whether the operating system at the target responds. Repeats a lost ping: the first
    /// pings get lost while the nodes look for a path.
    ///
    /// # Errors
    /// When no node has that address or no node responds within `patience`.
    pub async fn ping(&self, address: IpAddr, patience: Duration) -> Result<Pong, TailnetError> {
        self.ping_until(address, "disco", patience).await
    }

    /// As [`OutsideClient::ping`], through the encrypted tunnel; does not report the path.
    ///
    /// # Errors
    /// As [`OutsideClient::ping`].
    pub async fn ping_through_tunnel(
        &self,
        address: IpAddr,
        patience: Duration,
    ) -> Result<Pong, TailnetError> {
        self.ping_until(address, "TSMP", patience).await
    }

    async fn ping_until(
        &self,
        address: IpAddr,
        kind: &str,
        patience: Duration,
    ) -> Result<Pong, TailnetError> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.api.ping(address, kind, left.min(PING_AGAIN)).await {
                // Retry only without a response; any response, including a refusal, is final.
                Err(TailnetError::NoPong { .. }) if left > PING_AGAIN => {}
                outcome => return outcome,
            }
        }
    }

    /// The unix socket of its SOCKS5 proxy, for programs of the user.
    pub fn proxy(&self) -> &Path {
        self.proxy.socket()
    }

    /// The end of its log, without keys.
    pub fn last_words(&self) -> String {
        self.daemon.last_words(&self.keys())
    }

    pub async fn stop(self) {
        self.daemon.stop().await;
    }

    fn keys(&self) -> Vec<AuthKey> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for OutsideClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutsideClient").field("spec", &self.spec).field("proxy", &self.proxy()).finish()
    }
}

/// Tailscale's own control server (tailscale.com/ipn, `DefaultControlURL`).
pub const TAILSCALE: &str = "https://controlplane.tailscale.com";

/// Variables that prevent outside traffic of tailscaled: no log upload, no requests to the host's router.
const SWITCHED_OFF: [(&str, &str); 3] =
    [("TS_NO_LOGS_NO_SUPPORT", "true"), ("TS_DISABLE_PORTMAPPER", "true"), ("TS_DISABLE_UPNP", "true")];
