//! `lab up --detach`: a cluster that stays when its command ends.
//!
//! The command starts a second lab process, the *keeper*, with the same arguments, and shows what the keeper says. The
//! keeper owns the cluster: machines, LAN and recording. Both talk through the keeper's standard input and output:
//!
//! 1. The keeper writes one line of JSON ([`Ready`]) when the cluster is ready.
//! 2. The command prints it and answers with one line. Until then, the end of the command is the end of the cluster.
//! 3. From then on, the keeper waits for `lab down`, for the end of the cluster's lifetime, or for the end of a process.

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use clap::Args;
use lab_model::{ExitCode, words::shell_quoted};
use lab_vm::process::ProcessIdentity;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
    sync::mpsc,
};

use super::{
    Failed, asked_to_end,
    output::{append_to_file_of, tell_as_is, variable_of_job},
    say,
    up::STARTER_GONE,
};

/// The option that makes a cluster stay, and the options that say how.
pub(super) const DETACH: &str = "detach";
pub(super) const OF_DETACHED: [&str; 5] = ["ttl", "follow_pid", "export", "github_env", "keeper"];
/// The argument that makes this process the keeper.
const KEEPER: &str = "--keeper";
/// The variable of a job that names the file with the variables of later steps.
const GITHUB_ENV: &str = "GITHUB_ENV";
/// What the command answers when it has taken note of the cluster.
const TAKEN: &str = "taken";
/// Interval at which a followed process is looked for. Only Linux has process descriptors.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Options of a cluster that stays.
#[derive(Args)]
pub struct DetachOptions {
    /// Return when the cluster is ready; lab down, --ttl or --follow-pid end the cluster
    #[arg(long)]
    detach: bool,
    /// Lifetime of a detached cluster after it was ready, e.g. 90m or 8h
    #[arg(long, value_name = "TIME", default_value = "4h")]
    ttl: Lifetime,
    /// End a detached cluster when this process ends, e.g. $$ in a script
    #[arg(long, value_name = "PID")]
    follow_pid: Option<u32>,
    /// Print shell commands that set KUBECONFIG and TALOSCONFIG, for eval
    #[arg(long)]
    export: bool,
    /// Set KUBECONFIG and TALOSCONFIG for later steps of a job of GitHub Actions ($GITHUB_ENV)
    #[arg(long)]
    github_env: bool,
    /// Own the cluster of a command with --detach
    #[arg(long, hide = true)]
    keeper: bool,
}

/// How long a cluster may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(Duration);

impl Lifetime {
    pub(super) fn duration(self) -> Duration {
        self.0
    }
}

impl std::str::FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!("\"{text}\" is no time; write a number of seconds, minutes or hours, e.g. 30s, 90m or 8h")
        };
        let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(bad)?;
        let (number, unit) = text.split_at(split);
        let seconds: u64 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        match number.checked_mul(seconds) {
            Some(total) if (1..=7 * 24 * 3600).contains(&total) => Ok(Self(Duration::from_secs(total))),
            _ => Err(format!("{text} is not between 1s and 168h (a week)")),
        }
    }
}

impl std::fmt::Display for Lifetime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds % 3600, seconds % 60) {
            (0, _) => write!(f, "{}h", seconds / 3600),
            (_, 0) => write!(f, "{}m", seconds / 60),
            _ => write!(f, "{seconds}s"),
        }
    }
}

/// What the keeper says of a cluster that is ready.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Name of the run.
    pub run: String,
    pub kubeconfig: PathBuf,
    pub talosconfig: PathBuf,
    /// How to use the cluster, as text.
    pub usage: String,
}

impl DetachOptions {
    /// Makes the cluster stay, whatever the command line says.
    pub(super) fn detach(&mut self) {
        self.detach = true;
    }

    /// Whether this process starts a keeper, instead of a cluster.
    pub(super) fn starts_keeper(&self) -> bool {
        self.detach && !self.keeper
    }

    /// Starts a keeper with the arguments of this process, and returns when its cluster is ready or has failed.
    pub(super) async fn start_keeper(&self) -> Result<ExitCode, Failed> {
        let internal = |action: &str, error: std::io::Error| {
            Failed::new(ExitCode::Internal, format!("{action}: {error}"))
        };
        if let Some(pid) = self.follow_pid {
            followed(pid)?;
        }
        let github_env = self.github_env.then(github_env).transpose()?;
        let program = std::env::current_exe().map_err(|error| internal("find this program", error))?;
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let mut keeper = Command::new(program)
            .args(arguments)
            .arg(KEEPER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| internal("start the process that keeps the cluster", error))?;
        let (Some(mut answer), Some(said), Some(complaints)) =
            (keeper.stdin.take(), keeper.stdout.take(), keeper.stderr.take())
        else {
            return Err(Failed::new(ExitCode::Internal, "the process that keeps the cluster has no pipes"));
        };
        let mut complaints = BufReader::new(complaints).lines();
        let mut said = BufReader::new(said).lines();
        let ready = loop {
            tokio::select! {
                // What the keeper writes is safe to show.
                Ok(Some(line)) = complaints.next_line() => tell_as_is(&line),
                line = said.next_line() => break line,
                () = asked_to_end() => break Ok(None),
            }
        };
        let ready = ready.map_err(|error| internal("read from the process that keeps the cluster", error))?;
        let Some(ready) = ready else {
            // The cluster has failed, or this command was asked to end and does not take the cluster.
            drop(answer);
            while let Ok(Some(line)) = complaints.next_line().await {
                tell_as_is(&line);
            }
            let status =
                keeper.wait().await.map_err(|error| internal("wait for the cluster's end", error))?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.and_then(ExitCode::of).unwrap_or(ExitCode::Internal));
        };
        let ready: Ready = serde_json::from_str(&ready).map_err(|error| {
            Failed::new(ExitCode::Internal, format!("read what the keeper says: {error}"))
        })?;
        if let Some(path) = github_env {
            add_to_environment(&path, &ready)?;
        }
        if self.export {
            say!("{}", exports(&ready));
        } else {
            say!("{}\n\nIt stays for {}; `lab down {}` ends it.", ready.usage, self.ttl, ready.run);
        }
        let taken = format!("{TAKEN}\n");
        answer.write_all(taken.as_bytes()).await.map_err(|error| internal("hand over the cluster", error))?;
        Ok(ExitCode::Passed)
    }

    /// Starts to be the keeper: leaves the session of the command, so that neither its terminal nor its shell ends the
    /// cluster. `None` if this process is no keeper.
    pub(super) fn keeper(&self) -> Result<Option<Keeper>, Failed> {
        if !self.keeper {
            return Ok(None);
        }
        // Fails for the leader of a process group, which a keeper is not unless its user starts it by hand.
        nix::unistd::setsid().map_err(|error| {
            Failed::new(ExitCode::Internal, format!("leave the session of the command: {error}"))
        })?;
        let followed = self.follow_pid.map(followed).transpose()?;
        let (sender, starter) = mpsc::channel(1);
        // A thread, because a runtime waits for reads of standard input at its end. It ends with the process.
        std::thread::spawn(move || {
            for line in std::io::stdin().lines() {
                let Ok(line) = line else { return };
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Some(Keeper { starter, ttl: self.ttl, followed }))
    }
}

/// The keeper's side.
pub(super) struct Keeper {
    /// What the command says; closed when it has gone.
    starter: mpsc::Receiver<String>,
    ttl: Lifetime,
    followed: Option<ProcessIdentity>,
}

impl Keeper {
    /// Resolves when the command goes away. For a cluster that is not ready: the command says nothing before.
    pub(super) async fn starter_gone(&mut self) {
        while self.starter.recv().await.is_some() {}
    }

    /// Hands the cluster over to the command.
    ///
    /// # Errors
    /// With the reason why the cluster ends, if the command has gone.
    pub(super) async fn hand_over(&mut self, ready: &Ready) -> Result<(), String> {
        let gone = || STARTER_GONE.to_owned();
        let line = serde_json::to_string(ready).map_err(|error| error.to_string())?;
        let mut out = std::io::stdout();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| gone())?;
        match self.starter.recv().await {
            Some(line) if line == TAKEN => Ok(()),
            _ => Err(gone()),
        }
    }

    /// Resolves with the reason when a cluster that was handed over has to end.
    pub(super) async fn end_of_life(&self) -> String {
        let followed = async {
            let Some(process) = &self.followed else { return std::future::pending().await };
            while process.is_alive() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            format!("process {}, which this cluster followed, has ended", process.pid)
        };
        tokio::select! {
            () = tokio::time::sleep(self.ttl.0) => format!("its lifetime of {} is over", self.ttl),
            reason = followed => reason,
        }
    }
}

fn followed(pid: u32) -> Result<ProcessIdentity, Failed> {
    ProcessIdentity::of(pid).ok_or_else(|| {
        Failed::new(ExitCode::BadInput, format!("there is no process {pid} to follow (--follow-pid)"))
    })
}

fn github_env() -> Result<PathBuf, Failed> {
    variable_of_job(GITHUB_ENV).map(PathBuf::from).ok_or_else(|| {
        Failed::new(ExitCode::BadInput, "--github-env needs $GITHUB_ENV, which a job of GitHub Actions sets")
    })
}

fn variables(ready: &Ready) -> [(&'static str, String); 3] {
    [
        ("KUBECONFIG", ready.kubeconfig.display().to_string()),
        ("TALOSCONFIG", ready.talosconfig.display().to_string()),
        ("LAB_RUN", ready.run.clone()),
    ]
}

fn exports(ready: &Ready) -> String {
    let line = |(name, value): (&str, String)| format!("export {name}={}", shell_quoted(&value));
    variables(ready).map(line).join("\n")
}

fn add_to_environment(path: &Path, ready: &Ready) -> Result<(), Failed> {
    let lines: String = variables(ready).iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    if variables(ready).iter().any(|(_, value)| value.contains('\n')) {
        return Err(Failed::new(
            ExitCode::BadInput,
            "a path with a line break does not fit into $GITHUB_ENV",
        ));
    }
    append_to_file_of(GITHUB_ENV, path, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        Ready {
            run: "lab-1".into(),
            kubeconfig: "/runs/it's/kubeconfig".into(),
            talosconfig: "/runs/talosconfig".into(),
            usage: String::new(),
        }
    }

    #[test]
    fn lifetimes_have_a_unit_and_bounds() {
        for (text, seconds) in [("30s", 30), ("90m", 5400), ("8h", 28_800), ("168h", 604_800)] {
            let lifetime: Lifetime = text.parse().expect(text);
            assert_eq!((lifetime.0.as_secs(), lifetime.to_string()), (seconds, text.to_owned()));
        }
        for text in ["", "5", "h", "0s", "169h", "1d", "-1h", "99999999999999999999h", "5é"] {
            assert!(text.parse::<Lifetime>().is_err(), "{text}");
        }
    }

    #[test]
    fn exports_survive_a_shell() {
        let script = format!("{}\nprintf '%s|%s' \"$KUBECONFIG\" \"$LAB_RUN\"", exports(&ready()));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/runs/it's/kubeconfig|lab-1");
    }

    #[test]
    fn later_steps_of_a_job_get_the_variables() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "EARLIER=1\n").expect("write");
        assert!(add_to_environment(file.path(), &ready()).is_ok());
        let text = std::fs::read_to_string(file.path()).expect("read");
        let expected =
            "EARLIER=1\nKUBECONFIG=/runs/it's/kubeconfig\nTALOSCONFIG=/runs/talosconfig\nLAB_RUN=lab-1\n";
        assert_eq!(text, expected);
        let two_lines = Ready { run: "a\nPATH=/evil".into(), ..ready() };
        assert!(add_to_environment(file.path(), &two_lines).is_err());
        assert_eq!(std::fs::read_to_string(file.path()).expect("read"), expected);
    }

    #[test]
    fn a_process_that_is_not_there_is_not_followed() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        child.wait().expect("ended");
        assert_eq!(followed(child.id()).err().map(|error| error.code), Some(ExitCode::BadInput));
    }
}
