//! The monitor of one QEMU process: QMP over a unix socket.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use qapi::{
    futures::{QapiService, QmpStreamTokio},
    qmp::QmpCommand,
};
use tokio::{
    io::{Interest, WriteHalf},
    net::UnixStream,
    task::JoinHandle,
};

use super::qmp_event::{QmpEvent, translate};

/// The maximum time until QEMU answers. It usually answers in milliseconds, but its main loop shares
/// two cores with the guests' emulation.
const PATIENCE: Duration = Duration::from_secs(30);

/// The reason why a monitor command failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The QMP session did not start.
    #[error("QEMU's monitor connected but did not greet as QMP does")]
    Greeting(#[source] std::io::Error),
    /// QEMU returned an error, or the connection broke.
    #[error("QEMU's monitor command {command} failed")]
    Command {
        command: &'static str,
        /// QEMU's error. Boxed, because this type is large and errors are moved by value.
        source: Box<qapi::ExecuteError>,
    },
    /// QEMU did not answer in time.
    #[error("QEMU's monitor did not answer {command} within {} s; the host may be overloaded", PATIENCE.as_secs())]
    Timeout {
        /// The command without an answer.
        command: &'static str,
    },
}

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// A connection to a monitor. Several tasks can send commands; QEMU answers them in order.
#[derive(Clone)]
pub struct Qmp {
    service: Arc<Service>,
    /// The same socket, for descriptors.
    socket: Arc<UnixStream>,
}

impl Qmp {
    /// Negotiates with QEMU on `stream` and passes its events to `observe` until the stream ends. The
    /// second value finishes after the last event.
    ///
    /// # Errors
    /// Fails if the other end does not speak QMP.
    pub async fn connect(
        stream: UnixStream,
        mut observe: impl FnMut(QmpEvent) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), QmpError> {
        let copied = stream.as_fd().try_clone_to_owned().map(std::os::unix::net::UnixStream::from);
        let socket = copied.and_then(UnixStream::from_std).map_err(QmpError::Greeting)?;
        let greeting = async { QmpStreamTokio::open(stream).await?.negotiate().await };
        let negotiated = tokio::time::timeout(PATIENCE, greeting)
            .await
            .map_err(|_| QmpError::Timeout { command: "qmp_capabilities" })?
            .map_err(QmpError::Greeting)?;
        let (service, mut events) = negotiated.into_parts();
        let listening = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        if let Some(event) = translate(&event) {
                            observe(event);
                        }
                    }
                    // An unknown event of a newer QEMU does not end the loop; a broken connection
                    // does.
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
                    Err(_) => break,
                }
            }
        });
        Ok((Self { service: Arc::new(service), socket: Arc::new(socket) }, listening))
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// Fails if QEMU returns an error, the connection breaks, or no answer comes in time.
    pub async fn execute<C>(&self, command: C) -> Result<C::Ok, QmpError>
    where
        C: QmpCommand + Send + 'static,
        C::Ok: Send + 'static,
    {
        let service = Arc::clone(&self.service);
        // Runs in a separate task: without out-of-band ids, a command that is cancelled before its
        // answer would leave that answer for the next command.
        let answer = tokio::spawn(async move { service.execute(command).await });
        match tokio::time::timeout(PATIENCE, answer).await {
            Err(_) => Err(QmpError::Timeout { command: C::NAME }),
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(source))) => Err(QmpError::Command { command: C::NAME, source: Box::new(source) }),
            Ok(Err(join)) => Err(QmpError::Command {
                command: C::NAME,
                source: Box::new(std::io::Error::other(join).into()),
            }),
        }
    }

    /// Gives QEMU an open file under a name, for commands that take a descriptor (`fd:NAME`).
    ///
    /// # Errors
    /// Same as [`Qmp::execute`].
    pub async fn pass_file(&self, name: &str, file: &File) -> Result<(), QmpError> {
        // A descriptor travels with at least one byte, and JSON ignores white space between two commands. QEMU keeps
        // the descriptor for the next `getfd` (`chardev/char-socket.c`).
        let send = || {
            let rights = [file.as_raw_fd()];
            let message = [ControlMessage::ScmRights(&rights)];
            let text = [IoSlice::new(b" ")];
            sendmsg::<()>(self.socket.as_raw_fd(), &text, &message, MsgFlags::empty(), None)
                .map_err(io::Error::from)
        };
        self.socket
            .async_io(Interest::WRITABLE, send)
            .await
            .map_err(|source| QmpError::Command { command: "getfd", source: Box::new(source.into()) })?;
        self.execute(qapi::qmp::getfd { fdname: name.to_owned() }).await.map(drop)
    }

    /// Runs a command of the human monitor and returns its output.
    ///
    /// # Errors
    /// Same as [`Qmp::execute`]. The human monitor has no error values: it prints errors as text.
    pub async fn human(&self, command_line: impl Into<String>) -> Result<String, QmpError> {
        let command_line = command_line.into();
        self.execute(qapi::qmp::human_monitor_command { cpu_index: None, command_line }).await
    }
}
