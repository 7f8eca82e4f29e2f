//! A command of the user, with all processes that it starts.
//!
//! The parent-death signal reaches only the command itself. A second process, the *keeper*, ends the others: it holds one
//! end of a pipe, and the lab holds the other end. When the lab closes its end, or dies in any way, the keeper kills the
//! process group of the command, and then every process with the group's mark in its environment: a process that left
//! the group still has that. (Only Linux shows environments. On other systems, such a process outlives the command.)

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{
    output::{Output, Tail},
    processes::{Process, ProcessError, Processes},
};

/// The variable with the mark of a process group.
const MARK: &str = "LAB_PROCESS_GROUP";
/// What the keeper does. `$1` is the mark.
const KEEP: &str = include_str!("keeper.sh");
/// The time for the end of a group, and for the rest of its output afterwards.
const END: Duration = Duration::from_secs(10);
const SHELL: &str = "/bin/sh";

/// A finished command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// How the command ended; `None` if its time limit ended it.
    pub status: Option<ExitStatus>,
    /// What it wrote to standard output and standard error, in order.
    pub output: Output,
    pub took: Duration,
}

impl Processes {
    /// Runs a command for at most `limit`. When this returns, or is cancelled, all processes that the command started are
    /// killed.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub async fn run(&self, name: &str, command: Command, limit: Duration) -> Result<Ran, ProcessError> {
        let program = PathBuf::from(command.get_program());
        let failed = |source| ProcessError::Start { program: program.clone(), source };
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?;
        let began = Instant::now();
        let group = ProcessGroup::start(self, name, command, writer).await?;
        let mut tail = Tail::default();
        let status = tokio::select! {
            status = group.leader.wait() => Some(status),
            () = collect(&mut reader, &mut tail) => {
                // The command closed its output before its end.
                tokio::time::timeout(limit.saturating_sub(began.elapsed()), group.leader.wait()).await.ok()
            }
            () = tokio::time::sleep(limit) => None,
        };
        let took = began.elapsed();
        group.end().await;
        // Nothing holds the other end now; what is in the pipe is the rest.
        let _ = tokio::time::timeout(END, collect(&mut reader, &mut tail)).await;
        Ok(Ran { status, output: tail.into_output(), took })
    }
}

/// Reads until the end of the pipe.
async fn collect(reader: &mut pipe::Receiver, tail: &mut Tail) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        tail.push(&buffer[..length]);
    }
}

struct ProcessGroup {
    leader: Process,
    keeper: tokio::process::Child,
}

impl ProcessGroup {
    async fn start(
        processes: &Processes,
        name: &str,
        mut command: Command,
        output: io::PipeWriter,
    ) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::Start { program: PathBuf::from(SHELL), source };
        let mark = format!("{:032x}", rand::random::<u128>());
        // First, so that it exists whenever the command does.
        let mut keeper = keeper(&mark).map_err(failed)?;
        command
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output);
        let leader = processes.spawn(name, command).await?;
        let told = match &mut keeper.stdin {
            Some(stdin) => tell(stdin, leader.pid()),
            None => Ok(()),
        };
        told.map_err(failed)?;
        Ok(Self { leader, keeper })
    }

    /// Kills all processes of the group, and returns when they are gone.
    async fn end(mut self) {
        drop(self.keeper.stdin.take());
        let _ = tokio::time::timeout(END, self.keeper.wait()).await;
    }
}

fn keeper(mark: &str) -> io::Result<tokio::process::Child> {
    let mut command = Command::new(SHELL);
    command
        .args(["-c", KEEP, SHELL, &format!("{MARK}={mark}")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(Path::new("/"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in a terminal reaches only the lab.
        .process_group(0);
    tokio::process::Command::from(command).spawn()
}

/// Tells the keeper the process group. The line fits into the empty pipe, so the write cannot block.
fn tell(stdin: &tokio::process::ChildStdin, group: u32) -> io::Result<()> {
    use std::os::fd::AsFd;
    let mut pipe = std::fs::File::from(stdin.as_fd().try_clone_to_owned()?);
    pipe.write_all(format!("{group}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessIdentity;

    const LIMIT: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new(SHELL);
        command.args(["-c", script]);
        command
    }

    async fn ran(script: &str, limit: Duration) -> Ran {
        let records = tempfile::tempdir().unwrap();
        let processes = Processes::new(records.path()).unwrap();
        processes.run("test", shell(script), limit).await.unwrap()
    }

    /// The pids that a script printed, one a line.
    fn pids(ran: &Ran) -> Vec<u32> {
        ran.output.to_string().lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn living(ran: &Ran) -> usize {
        pids(ran).into_iter().filter(|pid| ProcessIdentity::of(*pid).is_some()).count()
    }

    #[tokio::test]
    async fn output_and_exit_code_are_those_of_the_command() {
        let ran = ran("echo one; echo two >&2; exit 3", LIMIT).await;
        assert_eq!(ran.status.and_then(|status| status.code()), Some(3));
        assert_eq!(ran.output.to_string(), "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_at_its_limit_with_its_children() {
        let ran =
            ran("sleep 600 & echo $!; sleep 600 & echo $!; echo $$; wait", Duration::from_secs(1)).await;
        assert_eq!((ran.status, pids(&ran).len()), (None, 3));
        assert_eq!(living(&ran), 0);
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_ends_with_it_even_outside_of_its_process_group() {
        let ran = ran(
            "sleep 600 >/dev/null 2>&1 & echo $!; setsid sh -c 'echo $$; exec sleep 600' & sleep 0.3",
            LIMIT,
        )
        .await;
        assert!(ran.status.is_some_and(|status| status.success()), "{ran:?}");
        assert_eq!(pids(&ran).len(), 2, "{ran:?}");
        assert_eq!(living(&ran), 0, "{ran:?}");
    }

    #[tokio::test]
    async fn a_command_that_closes_its_output_is_still_waited_for() {
        let ran = ran("exec >&- 2>&-; sleep 0.2; exit 4", LIMIT).await;
        assert_eq!(ran.status.and_then(|status| status.code()), Some(4));
    }

    #[tokio::test]
    async fn a_cancelled_run_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes::new(directory.path().join("records")).unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let run = processes.run("test", shell(&script), LIMIT);
        let written = async {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            _ = run => panic!("it ended by itself"),
            () = written => {}
        }
        let pid = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let gone = async {
            while ProcessIdentity::of(pid).is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(END, gone).await.expect("the child of the command is gone");
    }
}
