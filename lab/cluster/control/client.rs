//! The client side of the control channel, for other commands. Its calls block.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Request};

/// Time limit for a response. A reboot first calls the node, and a new QEMU may take a minute on a loaded
/// host.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection to a running lab.
pub struct ControlClient {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

/// The error of a request to a running lab.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No process listens, or the connection broke.
    #[error("the lab does not answer at {}: {source}; lab status lists the labs that are alive", socket.display())]
    Silent {
        /// The path of the socket.
        socket: PathBuf,
        /// The operating system error.
        source: io::Error,
    },
    /// The response comes from a different version of the lab.
    #[error(
        "this command does not understand the lab's answer: {answer}; use the version of `lab` that started it"
    )]
    Foreign {
        /// The response text.
        answer: String,
    },
    /// The lab rejected the request.
    #[error("{0}")]
    Refused(String),
}

impl ControlClient {
    /// Connects to a socket.
    ///
    /// # Errors
    /// When no process listens.
    pub fn connect(socket: &Path) -> Result<Self, ControlError> {
        let open = || {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(BufReader::new(stream))
        };
        match open() {
            Ok(stream) => Ok(Self { socket: socket.to_owned(), stream }),
            Err(source) => Err(ControlError::Silent { socket: socket.to_owned(), source }),
        }
    }

    /// Sends a request and returns the response. An error response becomes an `Err`.
    ///
    /// # Errors
    /// When the lab rejects the request or does not respond.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ControlError> {
        let mut line = String::new();
        let exchange = self.stream.get_mut().write_all(request.to_line().as_bytes());
        match exchange.and_then(|()| self.stream.read_line(&mut line)) {
            Ok(0) => Err(self.silent(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(Answer::Error { message }) => Err(ControlError::Refused(message)),
                Ok(answer) => Ok(answer),
                Err(_) => Err(ControlError::Foreign { answer: line.trim().to_owned() }),
            },
            Err(source) => Err(self.silent(source)),
        }
    }

    fn silent(&self, source: io::Error) -> ControlError {
        ControlError::Silent { socket: self.socket.clone(), source }
    }
}
