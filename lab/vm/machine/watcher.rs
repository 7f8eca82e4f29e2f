//! Watches one VM. Converts its messages and its end to events, and an unexpected end to a failure.

use std::{
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lab_model::{
    events::{EventKind, Recorder, Subject},
    node::NodeName,
};
use tokio::{net::UnixStream, sync::watch};

use super::{MachineFailure, MigrationState, QmpEvent, console::Console};
use crate::process::Process;

/// The maximum time to drain console and monitor after QEMU is gone.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// The shared state of the tasks for one machine.
pub(super) struct Watcher {
    pub node: NodeName,
    pub recorder: Recorder,
    pub failure: watch::Sender<Option<MachineFailure>>,
    /// The state of saving or loading memory.
    pub migration: watch::Sender<MigrationState>,
    /// The lab itself is ending the machine.
    pub ending: AtomicBool,
    /// The lab itself has stopped the CPUs, or the machine waits for its memory.
    pub pausing: AtomicBool,
    /// The user asked for the end of the process.
    pub killed: AtomicBool,
}

impl Watcher {
    /// Keeps only the first failure, because later failures are its consequences.
    fn fail(&self, failure: MachineFailure) {
        self.failure.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(failure);
            }
            first
        });
    }
}

/// Attaches a reader to the console; a fatal line becomes the machine's failure.
pub(super) fn attach_console(stream: UnixStream, log: File, watcher: &Arc<Watcher>) -> io::Result<Console> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let watcher = Arc::clone(watcher);
    Console::read(watcher.node.clone(), stream, log, watcher.recorder.clone(), move |pattern, line| {
        watcher.fail(MachineFailure::Console { node: watcher.node.clone(), pattern, line: line.to_owned() });
    })
}

/// Records the events of QEMU.
pub(super) fn observer(watcher: &Arc<Watcher>) -> impl FnMut(QmpEvent) + Send + 'static {
    let watcher = Arc::clone(watcher);
    move |event| {
        match &event {
            QmpEvent::Migration(state) => {
                watcher.migration.send_replace(*state);
                return;
            }
            QmpEvent::IoError { reason, full, stops: true } => {
                let (node, reason) = (watcher.node.clone(), reason.clone());
                watcher.fail(MachineFailure::Disk { node, reason, full: *full });
            }
            QmpEvent::Stopped if !watcher.pausing.load(Ordering::Relaxed) => {
                watcher.fail(MachineFailure::Stopped { node: watcher.node.clone() });
            }
            _ => {}
        }
        watcher.recorder.record(EventKind::Note {
            subject: Subject::Node(watcher.node.clone()),
            text: event.to_string(),
        });
    }
}

/// Waits for the process to end and reports the end. Drains console and monitor first, so that a
/// fatal last line is reported as the cause instead of the exit that it led to.
pub(super) async fn report_exit(
    process: Arc<Process>,
    last_words: impl Future<Output = ()>,
    console: Console,
    watcher: Arc<Watcher>,
    stderr_log: PathBuf,
) {
    let status = process.wait().await;
    // Bounded, because a process that inherited a socket could hold it open.
    let _ = tokio::time::timeout(DRAIN_PATIENCE, last_words).await;
    let expected = watcher.ending.load(Ordering::Relaxed);
    let stderr = tail_of(&stderr_log);
    // QEMU's own SHUTDOWN event often arrives after the end of the process. Without a quit command
    // and without error output (a signal causes some), only a guest can make QEMU exit successfully.
    let status = match status.code() {
        Some(0) if !expected && stderr.is_empty() => "the guest powered itself off".to_owned(),
        _ => in_words(status),
    };
    if !expected {
        watcher.fail(MachineFailure::Exited {
            node: watcher.node.clone(),
            status: status.clone(),
            stderr,
            console: console.tail(1).pop().unwrap_or_default(),
        });
    }
    watcher.recorder.record(EventKind::MachineExited { node: watcher.node.clone(), status, expected });
}

/// Formats an exit status for people.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => format!("signal {signal} ({name})"),
            Err(_) => format!("signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

/// The last lines of a small text file, joined to one line.
pub(super) fn tail_of(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(pausing: bool) -> Arc<Watcher> {
        Arc::new(Watcher {
            node: "worker-1".parse().expect("name"),
            recorder: Recorder::new(),
            failure: watch::Sender::new(None),
            migration: watch::Sender::new(MigrationState::Active),
            ending: AtomicBool::new(false),
            pausing: AtomicBool::new(pausing),
            killed: AtomicBool::new(false),
        })
    }

    fn failure(watcher: &Arc<Watcher>) -> Option<String> {
        watcher.failure.borrow().as_ref().map(ToString::to_string)
    }

    #[test]
    fn a_machine_that_stops_by_itself_has_failed_with_the_error_of_its_disk() {
        let stopped = watcher(false);
        let mut observe = observer(&stopped);
        let reason = || "No space left on device".to_owned();
        observe(QmpEvent::IoError { reason: reason(), full: true, stops: false });
        assert_eq!(failure(&stopped), None, "the guest gets the error and goes on");
        observe(QmpEvent::IoError { reason: reason(), full: true, stops: true });
        observe(QmpEvent::Stopped);
        let cause = failure(&stopped).expect("a cause");
        assert!(
            cause.starts_with("worker-1: QEMU cannot write its disk (No space left on device)"),
            "{cause}"
        );
        assert!(cause.contains("free space on the host"), "{cause}");
    }

    #[test]
    fn a_machine_that_stops_without_an_error_has_failed() {
        let stopped = watcher(false);
        observer(&stopped)(QmpEvent::Stopped);
        let cause = failure(&stopped).expect("a cause");
        assert!(cause.starts_with("worker-1: QEMU stopped the CPUs"), "{cause}");
    }

    #[test]
    fn a_machine_that_the_lab_pauses_has_not_failed() {
        let paused = watcher(true);
        observer(&paused)(QmpEvent::Stopped);
        assert_eq!(failure(&paused), None);
    }
}
