//! `lab node console --attach`: keyboard input goes to the serial console of a node.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Seek, SeekFrom, Write},
    os::fd::AsFd,
    path::Path,
    time::Duration,
};

use lab_cluster::control::{ControlClient, ControlError, Request};
use lab_model::node::NodeName;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::tell;

/// The key that ends the session: Ctrl-].
const LEAVE: u8 = 0x1d;
/// How much of the earlier output is shown, in bytes.
const BEFORE: u64 = 4 << 10;
/// Interval for reading the console file: there is no event for a growing file.
const LOOK: Duration = Duration::from_millis(30);

/// A terminal in raw mode, until this value is dropped.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Sets the terminal of standard input to raw mode.
    pub(super) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be closed.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// Shows a node's console and types into it, until Ctrl-] or the end of standard input.
pub(super) fn attach(node: &NodeName, console: &Path, control: &Path) -> Result<(), AttachError> {
    let mut client = ControlClient::connect(control)?;
    let file =
        from_its_end(console).map_err(|source| AttachError::Console { file: console.into(), source })?;
    tell!("{node}: attached to its serial console; Ctrl-] leaves");
    let _raw = if io::stdin().is_terminal() { Some(RawTerminal::enter()?) } else { None };
    // Ends with this command.
    std::thread::spawn(move || show(file));
    let mut keys = [0; 1024];
    let mut stdin = io::stdin().lock();
    loop {
        let count = stdin.read(&mut keys)?;
        let leave = keys[..count].iter().position(|key| *key == LEAVE);
        let typed = &keys[..leave.unwrap_or(count)];
        if !typed.is_empty() {
            client.ask(&Request::Type { node: node.clone(), keys: typed.to_vec() })?;
        }
        if count == 0 || leave.is_some() {
            return Ok(());
        }
    }
}

/// Why a console cannot be attached to.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The lab did not execute the request.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What the console wrote.
    #[error("read the console at {}: {source}", file.display())]
    Console {
        /// The console file.
        file: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The terminal of this process could not be read.
    #[error("read what is typed here: {0}")]
    Terminal(#[from] io::Error),
}

fn from_its_end(console: &Path) -> io::Result<File> {
    let mut file = File::open(console)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BEFORE)))?;
    Ok(file)
}

/// Copies new output of the console to standard output, without end.
fn show(mut file: File) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => std::thread::sleep(LOOK),
            Ok(count) => {
                let mut out = io::stdout().lock();
                if out.write_all(&buffer[..count]).and_then(|()| out.flush()).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
