//! Children that never outlive the lab.
//!
//! The parent-death signal is tied to the *thread* that spawned the child, not to the process. A
//! tokio worker or a test's thread may end any time, so all children are started from one thread
//! that lives as long as any of them: it runs a small runtime whose tasks wait for the children,
//! and ends once the last [`Processes`] and the last [`Process`] are gone.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{parent_death, record::ProcessRecord};

/// How long a killed child may take to be gone. Freeing gigabytes takes a moment.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Starts children. Cheap to clone; all clones share one thread.
#[derive(Clone)]
pub struct Processes {
    starter: Arc<Starter>,
}

/// One child. Dropping it kills the child.
pub struct Process {
    // Declared first, hence dropped first: its end is the order to kill, and only then may the
    // starter's thread be waited for.
    kill: mpsc::UnboundedSender<()>,
    pid: u32,
    status: watch::Receiver<Option<ExitStatus>>,
    _starter: Arc<Starter>,
}

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The system refused to run the program.
    #[error("cannot start {}; check that it exists and may be executed", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that starts children is gone.
    #[error("cannot start {}: the lab is shutting down", program.display())]
    ShuttingDown {
        /// The program.
        program: PathBuf,
    },
}

struct Starter {
    requests: Option<mpsc::UnboundedSender<SpawnRequest>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct SpawnRequest {
    name: String,
    command: Command,
    sockets: Option<PathBuf>,
    reply: oneshot::Sender<Result<Started, io::Error>>,
}

struct Started {
    pid: u32,
    kill: mpsc::UnboundedSender<()>,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl Processes {
    /// A starter whose children are recorded in `records` (created if missing). For a run that is
    /// [`RunDirectory::processes`](crate::host::RunDirectory::processes), where
    /// [`reap`](crate::host::reap) looks.
    pub fn new(records: impl Into<PathBuf>) -> io::Result<Self> {
        let records = records.into();
        std::fs::create_dir_all(&records)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (requests, inbox) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("children".to_owned())
            .spawn(move || runtime.block_on(serve(inbox, records)))?;
        Ok(Self { starter: Arc::new(Starter { requests: Some(requests), thread: Some(thread) }) })
    }

    /// Starts `command` in a process group of its own (Ctrl-C in the terminal reaches the lab
    /// alone, which then takes its children down in order) and with the parent-death signal. A
    /// tailnet key in the lab's own environment is not handed on.
    /// Its standard streams are as the caller set them.
    pub async fn spawn(&self, name: &str, command: Command) -> Result<Process, ProcessError> {
        self.spawn_with_sockets(name, command, None).await
    }

    /// As [`Processes::spawn`]; the record also names a socket directory, which
    /// [`reap`](crate::host::reap) removes should the lab be killed.
    pub async fn spawn_with_sockets(
        &self,
        name: &str,
        mut command: Command,
        sockets: Option<&Path>,
    ) -> Result<Process, ProcessError> {
        let program = PathBuf::from(command.get_program());
        command.env_remove("TS_AUTHKEY");
        let (reply, answer) = oneshot::channel();
        let request =
            SpawnRequest { name: name.to_owned(), command, sockets: sockets.map(Path::to_owned), reply };
        let sent = self.starter.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        let started = match answer.await {
            Ok(started) if sent => started,
            _ => return Err(ProcessError::ShuttingDown { program }),
        };
        let Started { pid, kill, status } =
            started.map_err(|source| ProcessError::Start { program, source })?;
        Ok(Process { kill, pid, status, _starter: Arc::clone(&self.starter) })
    }
}

impl Process {
    /// Its pid; meaningless once [`Process::exit_status`] is known.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.status.borrow()
    }

    /// Waits until it has ended. Any number may wait; cancelling a wait changes nothing.
    pub async fn wait(&self) -> ExitStatus {
        let mut status = self.status.clone();
        match status.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_else(killed),
            // The starter's thread only ends after the child's task has reported.
            Err(_) => self.exit_status().unwrap_or_else(killed),
        }
    }

    /// Sends SIGKILL. The pid is not signalled once the child was waited for, so a reused pid is
    /// safe.
    pub fn kill(&self) {
        // A child that is gone has no receiver any more: nothing to do.
        let _ = self.kill.send(());
    }
}

impl Drop for Starter {
    /// Returns once every child is gone.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; there is nobody to hand it to.
            let _ = thread.join();
        }
    }
}

async fn serve(mut inbox: mpsc::UnboundedReceiver<SpawnRequest>, records: PathBuf) {
    let mut children = JoinSet::new();
    loop {
        tokio::select! {
            request = inbox.recv() => match request {
                Some(request) => start(request, &records, &mut children),
                None => break,
            },
            Some(_) = children.join_next() => {}
        }
    }
    // Every Process is gone by now, hence every child has its order to die.
    while children.join_next().await.is_some() {}
}

fn start(request: SpawnRequest, records: &Path, children: &mut JoinSet<()>) {
    let SpawnRequest { name, mut command, sockets, reply } = request;
    parent_death::die_with_spawning_thread(&mut command);
    command.process_group(0);
    let child = match tokio::process::Command::from(command).kill_on_drop(true).spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = reply.send(Err(error));
            return;
        }
    };
    let pid = child.id().unwrap_or_default();
    // A missing record only costs the next run its clean-up after a SIGKILL.
    let record =
        ProcessRecord::of(&name, pid, sockets.as_deref()).and_then(|record| record.write(records).ok());
    let (kill, orders) = mpsc::unbounded_channel();
    let (report, status) = watch::channel(None);
    children.spawn(attend(child, orders, report, record));
    // If the requester is gone, dropping the sender inside is the order to kill.
    let _ = reply.send(Ok(Started { pid, kill, status }));
}

async fn attend(
    mut child: tokio::process::Child,
    mut orders: mpsc::UnboundedReceiver<()>,
    report: watch::Sender<Option<ExitStatus>>,
    record: Option<PathBuf>,
) {
    let status = tokio::select! {
        status = child.wait() => status.ok(),
        // Both an order and the owner's end.
        _ = orders.recv() => {
            let _ = child.start_kill();
            tokio::time::timeout(KILL_PATIENCE, child.wait()).await.ok().and_then(Result::ok)
        }
    };
    if let Some(record) = record {
        let _ = std::fs::remove_file(record);
    }
    report.send_replace(Some(status.unwrap_or_else(killed)));
}

/// The status of a child whose end could not be observed: only SIGKILL is left then.
fn killed() -> ExitStatus {
    ExitStatus::from_raw(nix::sys::signal::Signal::SIGKILL as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessIdentity;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn many_can_wait_for_one_child() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let child = processes.spawn("three", shell("exit 3")).await.unwrap();
        let (first, second) = tokio::join!(child.wait(), child.wait());
        assert_eq!((first.code(), second.code()), (Some(3), Some(3)));
    }

    #[tokio::test]
    async fn a_killed_child_is_gone_with_its_record() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let child = processes.spawn("sleeper", shell("sleep 60")).await.unwrap();
        let count = || std::fs::read_dir(records.path()).unwrap().count();
        assert_eq!(count(), 1);
        child.kill();
        assert_eq!(child.wait().await.signal(), Some(9));
        assert_eq!(count(), 0);
    }

    #[tokio::test]
    async fn dropping_the_last_handle_ends_every_child_before_it_returns() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let child = processes.spawn("sleeper", shell("sleep 60")).await.unwrap();
        let sleeper = ProcessIdentity::of(child.pid()).unwrap();
        assert!(sleeper.is_alive());
        drop(processes);
        drop(child);
        assert!(!sleeper.is_alive());
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let error = processes.spawn("nobody", Command::new("/does/not/exist")).await.err().unwrap();
        assert!(error.to_string().starts_with("cannot start /does/not/exist"));
    }
}
