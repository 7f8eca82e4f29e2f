//! The other end of the control channel: a command that asks. Blocks.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Answer, Request};

/// How long an answer may take: a reboot asks the node first, a new QEMU may take a minute on a loaded host.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection to a living lab.
pub struct ControlClient {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens, or the connection broke.
    #[error("the lab does not answer at {}: {source}; lab status lists the labs that are alive", socket.display())]
    Silent {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The answer is of another version of the lab.
    #[error("the lab answered what this command does not understand: {answer}; use the lab that started it")]
    Foreign {
        /// What it answered.
        answer: String,
    },
    /// It was not done.
    #[error("{0}")]
    Refused(String),
}

impl ControlClient {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
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

    /// Asks for something and returns the answer, which is no error.
    ///
    /// # Errors
    /// When it was not done, or nobody answers.
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
