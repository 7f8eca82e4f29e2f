//! The server side of the control channel.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Weak},
};

use lab_model::events::{EventKind, Recorder, Subject};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, LONGEST_REQUEST, Request, carry_out::carry_out};
use crate::formation::Cluster;

/// The name of the socket in the socket directory of the cluster's LAN.
const SOCKET: &str = "control";

/// Serves a cluster until drop. Does not keep the cluster alive.
pub struct ControlServer {
    _task: AbortOnDropHandle<()>,
}

impl ControlServer {
    /// Listens at the cluster's socket ([`ControlServer::socket_of`]).
    ///
    /// # Errors
    /// When the socket cannot be created.
    pub fn start(cluster: &Arc<Cluster>) -> io::Result<Self> {
        let listener = UnixListener::bind(socket_path(cluster)?)?;
        std::fs::set_permissions(socket_path(cluster)?, Permissions::from_mode(0o600))?;
        let task = tokio::spawn(serve(listener, Arc::downgrade(cluster), cluster.recorder().clone()));
        Ok(Self { _task: AbortOnDropHandle::new(task) })
    }

    /// Returns the path of a cluster's control socket, if it exists.
    pub fn socket_of(cluster: &Cluster) -> Option<PathBuf> {
        socket_path(cluster).ok().filter(|path| path.exists())
    }
}

fn socket_path(cluster: &Cluster) -> io::Result<PathBuf> {
    cluster.lan().sockets().socket(SOCKET)
}

async fn serve(listener: UnixListener, cluster: Weak<Cluster>, recorder: Recorder) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, cluster.clone()))),
                Err(error) => {
                    let text = format!(
                        "the control channel does not listen any more: {error}; other commands do not reach this \
                         cluster from now on"
                    );
                    return recorder.record(EventKind::Note { subject: Subject::Cluster, text });
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers requests line by line until the client closes the connection.
async fn converse(stream: UnixStream, cluster: Weak<Cluster>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LONGEST_REQUEST as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let whole = line.ends_with(b"\n") || line.len() < LONGEST_REQUEST;
        let answer = if whole {
            answer(&line, &cluster).await
        } else {
            Answer::Error { message: format!("a request has at most {LONGEST_REQUEST} bytes") }
        };
        // After a request that is too long, the start of the next request is unknown.
        if writer.write_all(answer.to_line().as_bytes()).await.is_err() || !whole {
            return;
        }
    }
}

async fn answer(line: &[u8], cluster: &Weak<Cluster>) -> Answer {
    let done = match (Request::parse(line), cluster.upgrade()) {
        (Err(error), _) => Err(error.to_string()),
        (_, None) => Err("the cluster is shutting down".to_owned()),
        (Ok(request), Some(cluster)) => carry_out(&cluster, request).await,
    };
    done.unwrap_or_else(|message| Answer::Error { message })
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::{fd::OwnedFd, unix::net},
    };

    use super::*;

    #[tokio::test]
    async fn a_channel_that_cannot_listen_any_more_is_told() {
        // `accept` fails on a socket that does not listen and has data to read.
        let (socket, mut other) = net::UnixStream::pair().expect("sockets");
        other.write_all(b"x").expect("write");
        let listener = net::UnixListener::from(OwnedFd::from(socket));
        listener.set_nonblocking(true).expect("non-blocking");
        let recorder = Recorder::new();
        let mut events = recorder.subscribe();
        serve(UnixListener::from_std(listener).expect("listener"), Weak::new(), recorder).await;
        let kind = events.try_recv().map(|event| event.kind);
        assert!(
            matches!(&kind, Ok(EventKind::Note { text, .. }) if text.contains("the control channel does not listen")),
            "{kind:?}"
        );
    }
}
