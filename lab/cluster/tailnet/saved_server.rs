//! Save and restore of a control server with the same addresses, keys, users and nodes.

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

/// The state file in the directory of a saved server.
const STATE: &str = "control-server.json";
/// The certificate in the directory of a saved server. A run keeps it in the configuration directory.
const CERTIFICATE: &str = "control.crt";

/// The state of a saved control server. Like the other files of the server, it contains secrets.
#[derive(Clone, Serialize, Deserialize)]
pub struct SavedControlServer {
    pub(super) listen: u16,
    pub(super) stun: u16,
    pub(super) user: u64,
    /// The authority that clients must trust.
    pub(super) authority: Option<String>,
    /// Keys to redact from all output.
    issued: Vec<String>,
}

impl SavedControlServer {
    /// Reads the state that [`ControlServer::save`] wrote.
    ///
    /// # Errors
    /// When the state file is missing or damaged.
    pub fn read(directory: &Path) -> Result<Self, TailnetError> {
        let path = directory.join(STATE);
        let text = fs::read(&path).map_err(file("read", &path))?;
        serde_json::from_slice(&text).map_err(|problem| file("read", &path)(problem.into()))
    }

    /// Returns a port that another process on this host uses, if any. The ports cannot change, because
    /// nodes use them.
    pub fn taken_port(&self) -> Option<u16> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, self.listen)).is_err().then_some(self.listen);
        tcp.or_else(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, self.stun)).is_err().then_some(self.stun))
    }

    /// Copies the files to the directories of a running server.
    pub(super) fn put_files(&self, from: &Path, place: &Placement<'_>) -> Result<(), TailnetError> {
        copy_files(from, place.private)?;
        let certificate = from.join(CERTIFICATE);
        if certificate.exists() { copy(&certificate, &place.certificate()) } else { Ok(()) }
    }
}

impl ControlServer {
    /// Copies the complete state to `directory` and creates the directory. Stops the server during the
    /// copy.
    ///
    /// # Errors
    /// When a file cannot be copied or the server does not start again.
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
        lab_model::files::create_private_directory(directory).map_err(file("create", directory))?;
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

    /// Starts a saved server at its old ports. Writes configuration and log to `directory`.
    ///
    /// # Errors
    /// When the state cannot be read or the server does not start, for example because a port is in use.
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

/// Copies the regular files of a directory. Only the owner can read the copies.
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
