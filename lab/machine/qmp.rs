//! The monitor of one QEMU process: QMP over a unix socket.

use std::{fmt, sync::Arc, time::Duration};

use futures::StreamExt;
use qapi::{
    futures::{QapiService, QmpStreamTokio},
    qmp::{Event, QmpCommand, ShutdownCause},
};
use tokio::{io::WriteHalf, net::UnixStream, task::JoinHandle};

/// How long QEMU may take to answer. It answers in milliseconds, but its main loop shares two
/// cores with the guests' emulation.
const PATIENCE: Duration = Duration::from_secs(30);

/// What QEMU says without being asked, as far as the lab cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QmpEvent {
    /// The machine was reset, by its guest or from outside.
    Reset {
        /// The guest asked for it (a reboot).
        by_guest: bool,
    },
    /// The process is about to end.
    Shutdown {
        /// The guest asked for it (a power-off).
        by_guest: bool,
        /// QEMU's cause.
        cause: &'static str,
    },
    /// The guest said that its kernel panicked.
    GuestPanicked,
    /// The CPUs were stopped.
    Stopped,
    /// The CPUs run again.
    Resumed,
}

impl fmt::Display for QmpEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QmpEvent::Reset { by_guest: true } => f.write_str("the guest rebooted"),
            QmpEvent::Reset { by_guest: false } => f.write_str("power-cycled"),
            QmpEvent::Shutdown { by_guest: true, .. } => f.write_str("the guest powered itself off"),
            QmpEvent::Shutdown { by_guest: false, cause } => write!(f, "shut down by {cause}"),
            QmpEvent::GuestPanicked => f.write_str("the guest reported a panic"),
            QmpEvent::Stopped => f.write_str("CPUs stopped"),
            QmpEvent::Resumed => f.write_str("CPUs running"),
        }
    }
}

/// Why a monitor command failed.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The conversation did not start.
    #[error("QEMU's monitor connected but did not greet as QMP does")]
    Greeting(#[source] std::io::Error),
    /// QEMU refused, or the connection broke.
    #[error("QEMU's monitor command {command} failed")]
    Command {
        /// The command.
        command: &'static str,
        /// What QEMU said. Boxed, since errors travel by value and this one is large.
        source: Box<qapi::ExecuteError>,
    },
    /// No answer.
    #[error("QEMU's monitor did not answer {command} within {} s; the host may be overloaded", PATIENCE.as_secs())]
    Timeout {
        /// The command.
        command: &'static str,
    },
}

type Service = QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>;

/// A connection to a monitor. Commands may be sent from many tasks; they are answered in turn.
#[derive(Clone)]
pub struct Qmp {
    service: Arc<Service>,
}

impl Qmp {
    /// Greets QEMU on `stream` and hands its events to `observe` until it ends. The second value
    /// finishes after the last event.
    ///
    /// # Errors
    /// When the other end does not speak QMP.
    pub async fn connect(
        stream: UnixStream,
        mut observe: impl FnMut(QmpEvent) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), QmpError> {
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
                    // An event of a newer QEMU that the crate does not know is no reason to stop
                    // listening; a broken connection is.
                    Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
                    Err(_) => break,
                }
            }
        });
        Ok((Self { service: Arc::new(service) }, listening))
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// When QEMU refuses it, the connection breaks, or no answer comes in time.
    pub async fn execute<C>(&self, command: C) -> Result<C::Ok, QmpError>
    where
        C: QmpCommand + Send + 'static,
        C::Ok: Send + 'static,
    {
        let service = Arc::clone(&self.service);
        // In a task of its own: without out-of-band ids a command that is cancelled before its
        // answer would leave that answer to the next command.
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

    /// Runs a command of the human monitor and returns what it printed.
    ///
    /// # Errors
    /// As [`Qmp::execute`]. The human monitor has no errors of its own: it prints them.
    pub async fn human(&self, command_line: impl Into<String>) -> Result<String, QmpError> {
        let command_line = command_line.into();
        self.execute(qapi::qmp::human_monitor_command { cpu_index: None, command_line }).await
    }
}

fn translate(event: &Event) -> Option<QmpEvent> {
    Some(match event {
        Event::RESET { data, .. } => QmpEvent::Reset { by_guest: data.guest },
        Event::SHUTDOWN { data, .. } => {
            QmpEvent::Shutdown { by_guest: data.guest, cause: cause(data.reason) }
        }
        Event::GUEST_PANICKED { .. } => QmpEvent::GuestPanicked,
        Event::STOP { .. } => QmpEvent::Stopped,
        Event::RESUME { .. } => QmpEvent::Resumed,
        _ => return None,
    })
}

fn cause(cause: ShutdownCause) -> &'static str {
    match cause {
        ShutdownCause::host_error => "an error of the host",
        ShutdownCause::host_qmp_quit => "the lab",
        ShutdownCause::host_signal => "a signal",
        ShutdownCause::guest_shutdown => "the guest",
        ShutdownCause::guest_reset => "a reboot of the guest",
        ShutdownCause::guest_panic => "a panic of the guest",
        _ => "QEMU",
    }
}
