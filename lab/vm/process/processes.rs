//! Child processes that never outlive the lab.
//!
//! The parent-death signal depends on the *thread* that spawned the child, not on the process. A
//! tokio worker or a test thread can end at any time. Therefore one dedicated thread starts all
//! children and lives as long as any child. It runs a small runtime with one waiting task per child,
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

use super::{
    parent_death,
    record::ProcessRecord,
    share::{CpuShare, hold_to},
};

/// The maximum time until a killed child is gone. Freeing gigabytes takes a moment.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Starts child processes. Cheap to clone; all clones share one thread.
#[derive(Clone)]
pub struct Processes {
    starter: Arc<Starter>,
}

/// One child process. Dropping it kills the child.
pub struct Process {
    // Declared first, so it is dropped first: closing the channel is the kill request, and it must
    // precede the join of the starter thread.
    kill: mpsc::UnboundedSender<()>,
    pid: u32,
    status: watch::Receiver<Option<ExitStatus>>,
    _starter: Arc<Starter>,
}

/// The reason why a child could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The operating system could not run the program.
    #[error("cannot start {}; check that it exists and may be executed", program.display())]
    Start {
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The thread that starts children is gone.
    #[error("cannot start {}: the lab is shutting down", program.display())]
    ShuttingDown {
        /// The program that was not started.
        program: PathBuf,
    },
}

struct Starter {
    requests: Option<mpsc::UnboundedSender<SpawnRequest>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What else the lab does for a child.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChildOptions<'a> {
    /// A socket directory for the record of the child. [`reap`](crate::host::reap) removes it if the lab is
    /// killed.
    pub sockets: Option<&'a Path>,
    /// The share of time in which the child runs.
    pub share: CpuShare,
    /// The nice value of all threads of the child: 0, as the lab, to 19.
    pub niceness: u8,
}

struct SpawnRequest {
    name: String,
    command: Command,
    sockets: Option<PathBuf>,
    share: CpuShare,
    niceness: u8,
    reply: oneshot::Sender<Result<Started, io::Error>>,
}

struct Started {
    pid: u32,
    kill: mpsc::UnboundedSender<()>,
    status: watch::Receiver<Option<ExitStatus>>,
}

impl Processes {
    /// Creates a starter that records its children in `records` (created if missing). A run uses
    /// [`RunDirectory::processes`](crate::host::RunDirectory::processes), where
    /// [`reap`](crate::host::reap) reads the records.
    pub fn new(records: impl Into<PathBuf>) -> io::Result<Self> {
        let records = records.into();
        lab_model::files::create_private_directory(&records)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (requests, inbox) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("children".to_owned())
            .spawn(move || runtime.block_on(serve(inbox, records)))?;
        Ok(Self { starter: Arc::new(Starter { requests: Some(requests), thread: Some(thread) }) })
    }

    /// Starts `command` in a separate process group with the parent-death signal. Ctrl-C in the
    /// terminal then reaches only the lab, which ends its children in order. The child does not
    /// inherit a tailnet key from the lab's environment. The caller sets the standard streams.
    pub async fn spawn(&self, name: &str, command: Command) -> Result<Process, ProcessError> {
        self.spawn_with(name, command, ChildOptions::default()).await
    }

    /// Same as [`Processes::spawn`], with options.
    pub async fn spawn_with(
        &self,
        name: &str,
        mut command: Command,
        options: ChildOptions<'_>,
    ) -> Result<Process, ProcessError> {
        let program = PathBuf::from(command.get_program());
        command.env_remove("TS_AUTHKEY");
        let (reply, answer) = oneshot::channel();
        let ChildOptions { sockets, share, niceness } = options;
        let sockets = sockets.map(Path::to_owned);
        let request = SpawnRequest { name: name.to_owned(), command, sockets, share, niceness, reply };
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
    /// The pid; invalid once [`Process::exit_status`] returns a status.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The exit status, if the process has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.status.borrow()
    }

    /// Waits until the process has ended. Any number of tasks can wait; cancelling a wait has no
    /// effect.
    pub async fn wait(&self) -> ExitStatus {
        let mut status = self.status.clone();
        match status.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_else(killed),
            // The starter thread ends only after the child's task has reported.
            Err(_) => self.exit_status().unwrap_or_else(killed),
        }
    }

    /// Sends SIGKILL. The lab does not signal the pid after it has waited for the child, so pid reuse
    /// is safe.
    pub fn kill(&self) {
        // The receiver of an ended child is gone, so there is nothing to do.
        let _ = self.kill.send(());
    }
}

impl Drop for Starter {
    /// Blocks until every child is gone.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has already been printed, so the result is ignored.
            let _ = thread.join();
        }
    }
}

async fn serve(mut inbox: mpsc::UnboundedReceiver<SpawnRequest>, records: PathBuf) {
    let mut children = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            request = inbox.recv() => match request {
                Some(request) => {
                    start(request, &records, &mut children, number);
                    number += 1;
                }
                None => break,
            },
            Some(_) = children.join_next() => {}
        }
    }
    // All `Process` values are dropped, so every child has its kill request.
    while children.join_next().await.is_some() {}
}

fn start(request: SpawnRequest, records: &Path, children: &mut JoinSet<()>, number: usize) {
    let SpawnRequest { name, mut command, sockets, share, niceness, reply } = request;
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
    lower_priority(pid, niceness);
    // Without a record, the next run cannot clean up after a SIGKILL. There is no other effect.
    let record =
        ProcessRecord::of(&name, pid, sockets.as_deref()).and_then(|record| record.write(records).ok());
    let (kill, orders) = mpsc::unbounded_channel();
    let (report, status) = watch::channel(None);
    let held = hold_to(share, pid, number);
    children.spawn(attend(child, held, orders, report, record));
    // If the requester is gone, dropping the inner sender is the kill request.
    let _ = reply.send(Ok(Started { pid, kill, status }));
}

/// Gives all threads of a child a nice value: those that it has now, and those that they start. The child is a
/// process group of its own (Linux: PRIO_PROCESS means one thread, PRIO_PGRP all threads of the group).
fn lower_priority(pid: u32, niceness: u8) {
    let group = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // A lower priority needs no right. A child that has ended by now needs none.
    if let Some(group) = group.filter(|_| niceness > 0) {
        let _ = rustix::process::setpriority_pgrp(Some(group), niceness.into());
    }
}

async fn attend(
    mut child: tokio::process::Child,
    held: impl Future<Output = ()>,
    mut orders: mpsc::UnboundedReceiver<()>,
    report: watch::Sender<Option<ExitStatus>>,
    record: Option<PathBuf>,
) {
    let status = tokio::select! {
        // First, so that no signal is sent after the wait has ended.
        biased;
        status = child.wait() => status.ok(),
        () = held => None,
        // Both a kill request and the owner's end.
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

/// The status of a child whose end was not observed: SIGKILL is then the only possible cause.
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
    async fn a_child_with_a_share_runs_only_for_that_share_and_can_be_killed_at_any_time() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let busy = async |share: &str| {
            let options = ChildOptions { share: share.parse().unwrap(), ..ChildOptions::default() };
            let child = processes.spawn_with("busy", shell("while :; do :; done"), options).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let used = crate::machine::usage::usage(child.pid()).unwrap().cpu_time;
            child.kill();
            assert_eq!(child.wait().await.signal(), Some(9));
            used
        };
        let (all, tenth) = (busy("100").await, busy("10").await);
        assert!(tenth < all / 3, "{tenth:?} with a tenth, {all:?} with all");
    }

    #[tokio::test]
    async fn the_nice_value_is_that_of_every_process_of_the_child() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let nice = async |niceness| {
            let mut command = shell("sleep 0.2; (nice; true) >nice");
            command.current_dir(records.path());
            let options = ChildOptions { niceness, ..ChildOptions::default() };
            processes.spawn_with("nice", command, options).await.unwrap().wait().await;
            let text = std::fs::read_to_string(records.path().join("nice")).unwrap();
            text.trim().parse::<u8>().unwrap()
        };
        let own = nice(0).await;
        assert_eq!(nice(own + 5).await, own + 5);
    }

    #[tokio::test]
    async fn a_child_with_a_share_ends_by_itself_as_any_other() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let options = ChildOptions { share: "20".parse().unwrap(), ..ChildOptions::default() };
        let child = processes.spawn_with("four", shell("sleep 0.2; exit 4"), options).await.unwrap();
        assert_eq!(child.wait().await.code(), Some(4));
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        let error = processes.spawn("nobody", Command::new("/does/not/exist")).await.err().unwrap();
        assert!(error.to_string().starts_with("cannot start /does/not/exist"));
    }
}
