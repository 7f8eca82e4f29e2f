//! Failures of a VM: at start, and during its run.

use std::path::PathBuf;

use lab_model::node::NodeName;

use super::{FatalPattern, QmpError};
use crate::process::ProcessError;

/// The unexpected end of a VM, with its cause.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MachineFailure {
    /// The console shows that the node cannot continue.
    #[error("{node}: {} ({}): \"{line}\"; {}", pattern.meaning, pattern.id, pattern.hint)]
    Console {
        node: NodeName,
        /// The table entry that the line matches.
        pattern: &'static FatalPattern,
        /// The console line.
        line: String,
    },
    /// QEMU cannot read or write the disk, and stopped the CPUs.
    #[error(
        "{node}: QEMU cannot write its disk ({reason}){}",
        if *full { ": the file system of the run directory is full; free space on the host, or name another --run-root" }
        else { "; look at the log of the host's kernel" }
    )]
    Disk {
        node: NodeName,
        /// The error, as the host's system reports it.
        reason: String,
        /// The host has no space left.
        full: bool,
    },
    /// QEMU stopped the CPUs without a request of the lab.
    #[error(
        "{node}: QEMU stopped the CPUs of the machine without a request, and reports no cause; look at the log of the \
         host's kernel"
    )]
    Stopped { node: NodeName },
    /// The QEMU process ended.
    #[error("{node}: QEMU ended unexpectedly: {status}{}", said(stderr, console))]
    Exited {
        node: NodeName,
        /// Exit status, signal or power-off, in a form for people.
        status: String,
        /// The end of QEMU's standard error.
        stderr: String,
        /// The last console line, which may be empty.
        console: String,
    },
}

impl MachineFailure {
    /// Whether the host has no space left, so that the failure says nothing about the guest.
    pub fn is_of_the_host(&self) -> bool {
        matches!(self, Self::Disk { full: true, .. })
    }
}

fn said(stderr: &str, console: &str) -> String {
    match (stderr.trim(), console.trim()) {
        ("", "") => String::new(),
        ("", console) => format!("; its console ended with \"{console}\""),
        (stderr, _) => format!("; it said: {stderr}"),
    }
}

/// The reason why a VM could not be started, or a command to it failed.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file of the machine cannot be prepared.
    #[error("{node}: cannot {action} {}", path.display())]
    File {
        node: NodeName,
        /// The failed action, as a verb.
        action: &'static str,
        /// The file or directory of the action.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The process cannot be started.
    #[error("{node}: QEMU does not start")]
    Process {
        node: NodeName,
        /// The error of the process starter.
        source: ProcessError,
    },
    /// The process ended before the VM was up.
    #[error(
        "{node}: QEMU ended while starting ({status}): {stderr}; the command is in {}", command.display()
    )]
    Refused {
        node: NodeName,
        /// Exit status in a form for people.
        status: String,
        /// QEMU's standard error.
        stderr: String,
        /// A script with the same command.
        command: PathBuf,
    },
    /// The process runs, but did not connect.
    #[error(
        "{node}: QEMU did not connect its console and monitor within {seconds} s; the host may be overloaded"
    )]
    Silent {
        node: NodeName,
        /// The time that the lab waited.
        seconds: u64,
    },
    /// A monitor command failed.
    #[error("{node}: cannot {action}")]
    Monitor {
        node: NodeName,
        /// The failed action, as a verb.
        action: &'static str,
        /// The error of the monitor.
        source: QmpError,
    },
    /// The memory of the VM cannot be saved or loaded.
    #[error("{node}: cannot {action}: {reason}")]
    Memory {
        node: NodeName,
        /// The failed action, as a verb.
        action: &'static str,
        /// The error that QEMU reported.
        reason: String,
    },
    /// The VM failed while the lab waited for it.
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
