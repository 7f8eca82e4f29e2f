//! A SOCKS5 proxy (RFC 1928) to the tailnet, for the user's own programs: curl and browsers.
//!
//! It is a unix socket in the private directory of the client. The proxies that tailscaled offers itself are TCP ports
//! on loopback, which every user of the host could enter the tailnet through.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use fast_socks5::{
    ReplyError, Socks5Command,
    server::{Socks5ServerProtocol, SocksServerError},
    util::target_addr::TargetAddr,
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

use super::super::local_api::{LocalApi, Transport};

/// The maximum number of connections at the same time.
const CONNECTIONS: usize = 256;

/// A running proxy. Drop ends it and its connections.
pub(super) struct Proxy {
    socket: PathBuf,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Listens at `socket`, in a directory that only this user can enter.
    pub fn start(api: LocalApi, socket: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while connections.len() >= CONNECTIONS {
                    connections.join_next().await;
                }
                while connections.try_join_next().is_some() {}
                let api = api.clone();
                connections.spawn(async move {
                    // The program at the other end sees the error; nobody else waits for it.
                    let _ = serve(stream, &api).await;
                });
            }
        });
        Ok(Self { socket: socket.to_owned(), serving })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one connection: the target is looked up and reached by the client.
async fn serve(stream: UnixStream, api: &LocalApi) -> Result<(), SocksServerError> {
    const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let (protocol, command, target) =
        Socks5ServerProtocol::accept_no_auth(stream).await?.read_command().await?;
    if command != Socks5Command::TCPConnect {
        return protocol.reply_error(&ReplyError::CommandNotSupported).await;
    }
    let (host, port) = match target {
        TargetAddr::Ip(address) => (address.ip().to_string(), address.port()),
        TargetAddr::Domain(name, port) => (name, port),
    };
    match api.dial(Transport::Tcp, &host, port).await {
        Err(_) => protocol.reply_error(&ReplyError::HostUnreachable).await,
        Ok(mut remote) => {
            let mut stream = protocol.reply_success(UNKNOWN).await?;
            // Either end may go at any time.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut remote).await;
            Ok(())
        }
    }
}
