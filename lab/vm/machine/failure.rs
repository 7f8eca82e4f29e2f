//! How a VM fails, and why it could not be started.

use std::path::PathBuf;

use lab_model::node::NodeName;

use super::{FatalPattern, QmpError};
use crate::process::ProcessError;

/// The end of a VM that nobody asked for, with its cause.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MachineFailure {
    /// The console says that the node cannot go on.
    #[error("{node}: {} ({}): \"{line}\"; {}", pattern.meaning, pattern.id, pattern.hint)]
    Console {
        /// Whose console.
        node: NodeName,
        /// What kind of line.
        pattern: &'static FatalPattern,
        /// The line.
        line: String,
    },
    /// The QEMU process ended.
    #[error("{node}: QEMU ended unexpectedly: {status}{}", said(stderr, console))]
    Exited {
        /// Whose process.
        node: NodeName,
        /// Exit status, signal or power-off, in words.
        status: String,
        /// The end of what QEMU wrote to its standard error.
        stderr: String,
        /// The console's last line, which may be empty.
        console: String,
    },
}

fn said(stderr: &str, console: &str) -> String {
    match (stderr.trim(), console.trim()) {
        ("", "") => String::new(),
        ("", console) => format!("; its console ended with \"{console}\""),
        (stderr, _) => format!("; it said: {stderr}"),
    }
}

/// Why a VM could not be started or commanded.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file of the machine cannot be prepared.
    #[error("{node}: cannot {action} {}", path.display())]
    File {
        /// Whose machine.
        node: NodeName,
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The process cannot be started.
    #[error("{node}: QEMU does not start")]
    Process {
        /// Whose machine.
        node: NodeName,
        /// Why.
        source: ProcessError,
    },
    /// The process ended before it was up.
    #[error(
        "{node}: QEMU ended while starting ({status}): {stderr}; the command is in {}", command.display()
    )]
    Refused {
        /// Whose machine.
        node: NodeName,
        /// Exit status in words.
        status: String,
        /// What it wrote to its standard error.
        stderr: String,
        /// A script with the same command.
        command: PathBuf,
    },
    /// The process runs but did not connect.
    #[error(
        "{node}: QEMU did not connect its console and monitor within {seconds} s; the host may be overloaded"
    )]
    Silent {
        /// Whose machine.
        node: NodeName,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A monitor command failed.
    #[error("{node}: cannot {action}")]
    Monitor {
        /// Whose machine.
        node: NodeName,
        /// What was tried, as a verb.
        action: &'static str,
        /// Why.
        source: QmpError,
    },
    /// Its memory cannot be saved or loaded.
    #[error("{node}: cannot {action}: {reason}")]
    Memory {
        /// Whose machine.
        node: NodeName,
        /// What was tried, as a verb.
        action: &'static str,
        /// What QEMU said.
        reason: String,
    },
    /// The VM failed while it was waited for.
    #[error(transparent)]
    Failed(#[from] MachineFailure),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fatal_pattern;

    #[test]
    fn a_failure_reads_as_cause_evidence_and_next_step() {
        let line = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100";
        let failure = MachineFailure::Console {
            node: "worker-1".parse().unwrap(),
            pattern: fatal_pattern(line).unwrap(),
            line: line.into(),
        };
        insta::assert_snapshot!(failure.to_string());
        let failure = MachineFailure::Exited {
            node: "worker-1".parse().unwrap(),
            status: "signal 9 (SIGKILL)".into(),
            stderr: String::new(),
            console: "[ 3.1] starting".into(),
        };
        insta::assert_snapshot!(failure.to_string());
    }
}
