//! Why a part of the tailnet does not work.

use std::{io, path::PathBuf};

use lab_vm::process::ProcessError;

/// Why a part of the tailnet does not work. Quoted output has its keys taken out.
#[derive(Debug, thiserror::Error)]
pub enum TailnetError {
    /// A file, directory or socket.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No free port.
    #[error("cannot open a port on the loopback interface for {what}")]
    Port {
        /// What it was for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program ended by itself.
    #[error("{program} ended by itself ({status}); its last words: {log}")]
    Ended {
        /// Which program.
        program: String,
        /// Exit status in words.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Something did not come about in time.
    #[error("{program}: {awaited} not seen within {seconds} s; last seen: {seen}; last words: {log}")]
    Late {
        /// Whose doing it would have been.
        program: String,
        /// What was waited for.
        awaited: String,
        /// How long.
        seconds: u64,
        /// What was there instead.
        seen: String,
        /// The end of the program's log.
        log: String,
    },
    /// A call of the control server failed.
    #[error("cannot {action} on the control server: {output}")]
    Call {
        /// What was tried.
        action: String,
        /// What it answered.
        output: String,
    },
    /// The client could not log in.
    #[error("{client} cannot log in to {server}: {reason}; {hint}")]
    Login {
        /// Its host name.
        client: String,
        /// The control server's address.
        server: String,
        /// What client and control server said.
        reason: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// An answer that is not understood.
    #[error("the answer of {program} to \"{action}\" is not understood: {problem}")]
    Answer {
        /// Whose answer.
        program: &'static str,
        /// To what.
        action: String,
        /// Where it is not as expected.
        problem: String,
    },
    /// A call of the client's local API failed.
    #[error("cannot {action} through the local API of {client}: {problem}")]
    LocalApi {
        /// The client's host name.
        client: String,
        /// What was tried.
        action: &'static str,
        /// What happened.
        problem: String,
    },
    /// Nobody answered a ping.
    #[error(
        "no answer to pings of {address} from {client}; check that the node is online and that UDP or a relay connects both"
    )]
    NoPong {
        /// Who pinged.
        client: String,
        /// Whom.
        address: std::net::IpAddr,
    },
    /// A key or certificate for the control server's TLS.
    #[error("cannot make a certificate for the control server")]
    Certificate(#[from] rcgen::Error),
    /// An auth key cannot be handed over.
    #[error(transparent)]
    Key(#[from] lab_plan::tailnet::AuthKeyError),
}

/// For `map_err`: names the action and the file of an I/O error.
pub(super) fn file<'a>(
    action: &'static str,
    path: &'a std::path::Path,
) -> impl FnOnce(io::Error) -> TailnetError + use<'a> {
    move |source| TailnetError::File { action, path: path.to_owned(), source }
}
