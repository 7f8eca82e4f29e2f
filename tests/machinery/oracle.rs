//! A running `machinery` program (see main.go): Sidero's own library, asked from Rust tests.
//!
//! One process a version and test binary, shared by its tests; it ends when its input closes,
//! which the end of the test process does.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde::Deserialize;
use serde_json::{Value, json};

/// The directory of the program, from the manifest of any crate.
fn directory() -> PathBuf {
    let mut above =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|path| path.join("tests/machinery"));
    above.find(|path| path.is_dir()).expect("tests/machinery above the manifest")
}

/// Whose opinion is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// machinery v1.11, through `go.v1.11.mod`.
    V1_11,
    /// machinery v1.12, through `go.v1.12.mod`.
    V1_12,
    /// machinery v1.13, through `go.mod`.
    V1_13,
}

/// The process.
pub struct Machinery {
    _process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Answer {
    refusal: String,
    result: String,
}

impl Machinery {
    /// The shared process of that version, started on first use.
    pub fn of(version: Version) -> MutexGuard<'static, Self> {
        static OLD: OnceLock<Mutex<Machinery>> = OnceLock::new();
        static MIDDLE: OnceLock<Mutex<Machinery>> = OnceLock::new();
        static NEW: OnceLock<Mutex<Machinery>> = OnceLock::new();
        let cell = match version {
            Version::V1_11 => &OLD,
            Version::V1_12 => &MIDDLE,
            Version::V1_13 => &NEW,
        };
        // A test that failed while it held the lock left no half-read answer behind.
        cell.get_or_init(|| Mutex::new(Self::start(version))).lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(version: Version) -> Self {
        let mut go = Command::new("go");
        go.arg("run");
        match version {
            Version::V1_11 => drop(go.arg("-modfile=go.v1.11.mod")),
            Version::V1_12 => drop(go.arg("-modfile=go.v1.12.mod")),
            Version::V1_13 => {}
        }
        let mut process = go
            .arg(".")
            .current_dir(directory())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "start `go run` for tests/machinery: {error}; `make setup` installs Go (1.26.6 or later)"
                )
            });
        let questions = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { _process: process, questions, answers }
    }

    /// Asks one question; `Err` is the library's refusal.
    pub fn ask(&mut self, question: &Value) -> Result<String, String> {
        writeln!(self.questions, "{question}").expect("ask machinery (see its output above)");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("hear machinery");
        let answer: Answer = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("machinery ended or answered {line:?}: {error}; see its output above")
        });
        if answer.refusal.is_empty() { Ok(answer.result) } else { Err(answer.refusal) }
    }

    /// Loads and validates a machine config as a metal machine does.
    pub fn validate(&mut self, config: &str) -> Result<String, String> {
        self.ask(&json!({ "ask": "validate", "config": config }))
    }

    /// Lays patches over a config with the library's patcher.
    pub fn patch(&mut self, config: &str, patches: &[String]) -> Result<String, String> {
        self.ask(&json!({ "ask": "patch", "config": config, "patches": patches }))
    }
}
