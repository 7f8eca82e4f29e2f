//! A control server put away and taken up again: the same addresses, keys, users and nodes.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    path::Path,
};

use lab_model::files::replace_file;
use lab_plan::tailnet::AuthKey;
use lab_vm::process::Processes;
use serde::{Deserialize, Serialize};

use super::{
    ControlServer, ControlSpec, Programs, TailnetError,
    control_config::{Placement, SOCKET},
    error::file,
};

/// In the directory of a saved server: what it is.
const STATE: &str = "control-server.json";
/// In the directory of a saved server: its certificate, which a run keeps beside its configuration.
const CERTIFICATE: &str = "control.crt";

/// What is written down of a saved control server. Its files hold secrets, and so does this.
#[derive(Clone, Serialize, Deserialize)]
pub struct SavedControlServer {
    pub(super) listen: u16,
    pub(super) stun: u16,
    pub(super) user: u64,
    /// What its clients must trust.
    pub(super) authority: Option<String>,
    /// Keys that nothing it writes may show.
    issued: Vec<String>,
}

impl SavedControlServer {
    /// Reads what [`ControlServer::save`] has left.
    ///
    /// # Errors
    /// When it is not there or damaged.
    pub fn read(directory: &Path) -> Result<Self, TailnetError> {
        let path = directory.join(STATE);
        let text = fs::read(&path).map_err(file("read", &path))?;
        serde_json::from_slice(&text).map_err(|problem| file("read", &path)(problem.into()))
    }

    /// The port that something else on this host has taken, if any: nodes know the server by its ports.
    pub fn taken_port(&self) -> Option<u16> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, self.listen)).is_err().then_some(self.listen);
        tcp.or_else(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, self.stun)).is_err().then_some(self.stun))
    }

    /// Puts its files where the server of a run has them.
    pub(super) fn put_files(&self, from: &Path, place: &Placement<'_>) -> Result<(), TailnetError> {
        copy_files(from, place.private)?;
        let certificate = from.join(CERTIFICATE);
        if certificate.exists() { copy(&certificate, &place.certificate()) } else { Ok(()) }
    }
}

impl ControlServer {
    /// Copies all of its state to `directory`, which is made. It is down meanwhile.
    ///
    /// # Errors
    /// When a file cannot be copied, or it does not come up again.
    pub async fn save(&self, directory: &Path) -> Result<(), TailnetError> {
        let was_running = self.is_running();
        self.stop().await;
        let copied = self.copy_state(directory);
        if was_running {
            self.resume().await?;
        }
        copied
    }

    fn copy_state(&self, directory: &Path) -> Result<(), TailnetError> {
        fs::create_dir_all(directory).map_err(file("create", directory))?;
        let place = self.placement();
        copy_files(place.private, directory)?;
        if place.certificate().exists() {
            copy(&place.certificate(), &directory.join(CERTIFICATE))?;
        }
        let state = SavedControlServer {
            listen: place.listen.port(),
            stun: place.stun.port(),
            user: self.user(),
            authority: self.access_from_host().authority,
            issued: self.issued_keys().iter().map(|key| key.reveal().to_owned()).collect(),
        };
        let path = directory.join(STATE);
        replace_file(&path, &serde_json::to_vec(&state).unwrap_or_default()).map_err(file("write", &path))
    }

    /// Starts a saved one again, at its old ports. Configuration and log go to `directory`.
    ///
    /// # Errors
    /// When its state cannot be read or it does not start, as when a port is taken.
    pub async fn restore(
        spec: ControlSpec,
        from: &Path,
        programs: &Programs,
        processes: &Processes,
        directory: &Path,
    ) -> Result<Self, TailnetError> {
        let saved = SavedControlServer::read(from)?;
        let server = Self::taken_up(spec, programs, processes, directory, &saved, from).await?;
        for key in &saved.issued {
            server.keep_secret(&AuthKey::new(key, "the saved control server")?);
        }
        Ok(server)
    }
}

/// Copies the plain files of a directory, for their owner alone.
fn copy_files(from: &Path, to: &Path) -> Result<(), TailnetError> {
    for entry in fs::read_dir(from).map_err(file("list", from))?.flatten() {
        let name = entry.file_name();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && name != SOCKET && name != STATE {
            copy(&entry.path(), &to.join(&name))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), TailnetError> {
    let content = fs::read(from).map_err(file("read", from))?;
    replace_file(to, &content).map_err(file("write", to))
}
