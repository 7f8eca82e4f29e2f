//! Common parts of the tailnet's daemons: a clean environment, a log, an owner.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lab_plan::tailnet::AuthKey;
use lab_vm::process::{ChildOptions, Process, Processes};
use tokio::time::Instant;

use super::{TailnetError, error::file};
use crate::wait::Wait;

/// Polling interval for a daemon that does not report readiness.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Number of log lines in an error.
const QUOTED_LINES: usize = 5;

/// A running daemon. Drop kills it.
pub(super) struct Daemon {
    program: String,
    process: Process,
    log: PathBuf,
}

/// Returns a command with a clean environment. Variables of the lab's user (keys, proxies, debug switches)
/// must not affect the tailnet or be visible in its processes.
pub(super) fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir(home);
    command
}

impl Daemon {
    /// Starts `command` and appends its output to `log`. Only the owner can read the log.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub async fn start(
        program: &str,
        mut command: Command,
        log: &Path,
        private: &Path,
        processes: &Processes,
    ) -> Result<Self, TailnetError> {
        let output = File::options().create(true).append(true).open(log).map_err(file("write", log))?;
        output.set_permissions(fs::Permissions::from_mode(0o600)).map_err(file("protect", log))?;
        let errors = output.try_clone().map_err(file("write", log))?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let options = ChildOptions { sockets: Some(private), ..ChildOptions::default() };
        let process = processes.spawn_with(program, command, options).await?;
        Ok(Self { program: program.to_owned(), process, log: log.to_owned() })
    }

    /// Polls `ready` until it returns a value, the daemon ends or the deadline expires. An error of `ready`
    /// describes the observed state.
    ///
    /// # Errors
    /// When the daemon ends or the time limit expires.
    pub async fn until<T, F: Future<Output = Result<T, String>>>(
        &self,
        awaited: &str,
        patience: Duration,
        keys: &[AuthKey],
        mut ready: impl FnMut() -> F,
    ) -> Result<T, TailnetError> {
        let deadline = Instant::now() + patience;
        let seen = Mutex::new("no answer at all".to_owned());
        let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = || {
            let answer = tokio::time::timeout_at(deadline, ready());
            async {
                match answer.await {
                    Ok(Ok(value)) => Ok(value),
                    Ok(Err(now)) => {
                        *lock() = now;
                        Err(())
                    }
                    Err(_) => Err(()),
                }
            }
        };
        // Neither program reports readiness.
        let wait = Wait::up_to(patience).every(LOOK_EVERY);
        tokio::select! {
            answer = wait.retry_if(|()| true, attempt) => answer.map_err(|_| TailnetError::Late {
                program: self.program.clone(),
                awaited: awaited.to_owned(),
                seconds: patience.as_secs(),
                seen: redacted(lock().clone(), keys),
                log: self.last_words(keys),
            }),
            ended = self.ended(keys) => Err(ended),
        }
    }

    /// Resolves when the daemon exits.
    pub async fn ended(&self, keys: &[AuthKey]) -> TailnetError {
        let status = self.process.wait().await.to_string();
        TailnetError::Ended { program: self.program.clone(), status, log: self.last_words(keys) }
    }

    /// Kills the daemon and waits for its exit.
    pub async fn stop(self) {
        self.process.kill();
        self.process.wait().await;
    }

    /// Returns the last lines of the log, without `keys`.
    pub fn last_words(&self, keys: &[AuthKey]) -> String {
        redacted(tail(&self.log_text().unwrap_or_default()), keys)
    }

    /// Returns the complete log.
    pub fn log_text(&self) -> io::Result<String> {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Removes all `keys` from `text`.
pub(super) fn redacted(text: String, keys: &[AuthKey]) -> String {
    keys.iter().fold(text, |text, key| key.redact(&text))
}

/// Returns the last lines of a text, as a single line.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        0 => "nothing".to_owned(),
        count => lines[count.saturating_sub(QUOTED_LINES)..].join(" / "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> (Daemon, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let processes = Processes::new(directory.path().join("processes")).unwrap();
        let mut command = command(Path::new("/bin/sh"), directory.path());
        command.args(["-c", script]);
        let log = directory.path().join("log");
        let daemon = Daemon::start("daemon", command, &log, directory.path(), &processes).await.unwrap();
        (daemon, directory)
    }

    #[tokio::test]
    async fn a_daemon_that_ends_is_quoted_without_its_key() {
        let key = AuthKey::new("planted-key", "a test").unwrap();
        let (daemon, _directory) = shell("echo first; echo got planted-key >&2; exit 3").await;
        let wait = daemon.until("an answer", Duration::from_secs(30), std::slice::from_ref(&key), || async {
            Err::<(), _>("silence".to_owned())
        });
        let error = wait.await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("first / got [redacted]"), "{error}");
    }

    #[tokio::test]
    async fn a_deadline_tells_what_was_seen_last() {
        let (daemon, _directory) = shell("sleep 60").await;
        let patience = Duration::from_millis(200);
        let error = daemon
            .until("an answer", patience, &[], || async { Err::<(), _>("refused".to_owned()) })
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("an answer not seen within 0 s; last seen: refused"), "{error}");
        daemon.stop().await;
    }

    #[tokio::test]
    async fn nothing_of_this_environment_is_handed_on() {
        let (daemon, directory) = shell("env").await;
        daemon.process.wait().await;
        let text = daemon.log_text().unwrap();
        assert!(text.contains(&format!("HOME={}", directory.path().display())));
        assert!(!text.contains("CARGO"), "{text}");
    }
}
