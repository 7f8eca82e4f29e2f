//! A running program: requests to its standard input, answers from its standard output, one line each.
//!
//! The program ends when its input closes, which the end of the lab does.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::Duration,
};

use lab_plan::lint::{JudgeAnswer, JudgeRequest};

/// The time for an answer. A hundred configs take a second on a slow host.
const PATIENCE: Duration = Duration::from_secs(60);
/// Maximum size of an answer in bytes. An answer quotes parts of configs.
const ANSWER_LIMIT: u64 = 64 << 20;

/// The program did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    #[error("cannot start {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{} cannot be asked: {source}", program.display())]
    Ask { program: PathBuf, source: io::Error },
    #[error("{} did not answer within {} seconds", program.display(), PATIENCE.as_secs())]
    Late { program: PathBuf },
    #[error("{} ended with {status} instead of an answer", program.display())]
    Ended { program: PathBuf, status: String },
    #[error("{} answered {line:?}: {source}", program.display())]
    Answer { program: PathBuf, line: String, source: serde_json::Error },
}

pub(super) struct Process {
    program: PathBuf,
    child: Child,
    /// `None` after the end of the process.
    requests: Option<ChildStdin>,
    answers: Receiver<io::Result<String>>,
}

impl Process {
    pub(super) fn start(program: &Path) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::Start { program: program.to_owned(), source };
        let mut child = Command::new(program)
            .env_clear()
            // The collector would otherwise run often while the library registers its types.
            .env("GOGC", "400")
            .env("GOMEMLIMIT", "1GiB")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let requests = child.stdin.take();
        let (send, answers) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut output = BufReader::new(output);
                loop {
                    let mut line = String::new();
                    let read = output.by_ref().take(ANSWER_LIMIT).read_line(&mut line);
                    let more = matches!(read, Ok(read) if read > 0);
                    if !more || send.send(read.map(|_| line)).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self { program: program.to_owned(), child, requests, answers })
    }

    pub(super) fn ask(&mut self, request: &JudgeRequest<'_>) -> Result<JudgeAnswer, ProcessError> {
        let program = self.program.clone();
        let failed = |source| ProcessError::Ask { program: program.clone(), source };
        let mut text = serde_json::to_string(request).map_err(|error| failed(error.into()))?;
        text.push('\n');
        let requests = self.requests.as_mut().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        // The program reads a whole request before it answers.
        let asked = requests.write_all(text.as_bytes()).and_then(|()| requests.flush());
        let line = match (asked, self.answers.recv_timeout(PATIENCE)) {
            (_, Ok(line)) => line.map_err(failed)?,
            (_, Err(RecvTimeoutError::Timeout)) => {
                self.end();
                return Err(ProcessError::Late { program });
            }
            (_, Err(RecvTimeoutError::Disconnected)) => {
                let status = self.end();
                return Err(ProcessError::Ended { program, status });
            }
        };
        serde_json::from_str(&line).map_err(|source| ProcessError::Answer {
            program,
            line: line.chars().take(200).collect(),
            source,
        })
    }

    /// Ends the process and returns its status.
    fn end(&mut self) -> String {
        self.requests = None;
        if let Ok(Some(status)) = self.child.try_wait() {
            return status.to_string();
        }
        // It may have ended by itself in the meantime.
        let _ = self.child.kill();
        self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_of(script: &str) -> Result<JudgeAnswer, ProcessError> {
        let directory = tempfile::tempdir().expect("directory");
        let program = directory.path().join("program");
        // Another process writes it: a process that a test beside this one starts would inherit an open file, and Linux
        // runs no program that is open for writing.
        let write = [r#"printf '%s' "$1" > "$0" && chmod 755 "$0""#, &format!("#!/bin/sh\n{script}\n")];
        let written = Command::new("sh").arg("-c").arg(write[0]).arg(&program).arg(write[1]).status();
        assert!(written.expect("sh").success());
        Process::start(&program)?.ask(&JudgeRequest::default())
    }

    #[test]
    fn an_answer_is_a_line() {
        let answer =
            answer_of(r#"read request; echo '{"library":"v1.13.9","verdicts":[]}'"#).expect("answer");
        assert_eq!(answer.library, "v1.13.9");
    }

    #[test]
    fn a_program_that_ends_or_talks_nonsense_is_an_error_with_what_was_seen() {
        let ended = answer_of("exit 3").expect_err("ended").to_string();
        assert!(ended.contains("exit status: 3"), "{ended}");
        let nonsense = answer_of("read request; echo hello").expect_err("nonsense").to_string();
        assert!(nonsense.contains("hello"), "{nonsense}");
        let missing = Process::start(Path::new("/nonexistent/program")).err().expect("missing").to_string();
        assert!(missing.contains("/nonexistent/program"), "{missing}");
    }
}
