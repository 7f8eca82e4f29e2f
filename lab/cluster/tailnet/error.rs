//! Errors of the tailnet.

use std::{io, path::PathBuf};

use lab_vm::process::ProcessError;

/// Why a part of the tailnet does not work. Quoted output is redacted.
#[derive(Debug, thiserror::Error)]
pub enum TailnetError {
    /// A file, directory or socket operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// No free port.
    #[error("cannot open a port on the loopback interface for {what}")]
    Port {
        /// The purpose of the port.
        what: &'static str,
        source: io::Error,
    },
    /// A program cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program exited unexpectedly.
    #[error("{program} exited unexpectedly ({status}); last log lines: {log}")]
    Ended {
        program: String,
        /// The exit status as text.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// An expected state was not reached in time.
    #[error("{program}: {awaited} not seen within {seconds} s; last seen: {seen}; last log lines: {log}")]
    Late {
        /// The program to wait for.
        program: String,
        /// The expected state.
        awaited: String,
        /// The time limit.
        seconds: u64,
        /// The last state.
        seen: String,
        /// The end of the program's log.
        log: String,
    },
    /// A call of the control server failed.
    #[error("cannot {action} on the control server: {output}")]
    Call {
        action: String,
        /// The output of the call.
        output: String,
    },
    /// The client could not log in.
    #[error("{client} cannot log in to {server}: {reason}; {hint}")]
    Login {
        /// The host name of the client.
        client: String,
        /// The address of the control server.
        server: String,
        /// The messages of the client and the control server.
        reason: String,
        /// A hint for the user.
        hint: &'static str,
    },
    /// A response could not be parsed.
    #[error("the answer of {program} to \"{action}\" is not understood: {problem}")]
    Answer {
        /// The program that responded.
        program: &'static str,
        action: String,
        /// The parse error.
        problem: String,
    },
    /// A call of the client's local API failed.
    #[error("cannot {action} through the local API of {client}: {problem}")]
    LocalApi {
        /// The client's host name.
        client: String,
        action: &'static str,
        problem: String,
    },
    /// No response to a ping.
    #[error(
        "no answer to pings of {address} from {client}; check that the node is online and that UDP or a relay connects both"
    )]
    NoPong {
        /// The client that sent the ping.
        client: String,
        /// The target of the ping.
        address: std::net::IpAddr,
    },
    /// A key or certificate for the control server's TLS could not be created.
    #[error("cannot make a certificate for the control server")]
    Certificate(#[from] rcgen::Error),
    /// An auth key could not be passed on.
    #[error(transparent)]
    Key(#[from] lab_plan::tailnet::AuthKeyError),
}

/// For `map_err`: adds the action and the path to an I/O error.
pub(super) fn file<'a>(
    action: &'static str,
    path: &'a std::path::Path,
) -> impl FnOnce(io::Error) -> TailnetError + use<'a> {
    move |source| TailnetError::File { action, path: path.to_owned(), source }
}
