//! The labs that live on this host now: what `lab status` lists and `lab down` ends.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use lab_model::{
    RunDirectoryError,
    files::FileLock,
    node::{Kind, NodeName, Role},
};
use serde::{Deserialize, Serialize};

use super::{
    reap::{name_of, run_directories},
    run_directory::{LOCK, STATE},
};
use crate::process::ProcessIdentity;

/// What a live lab publishes about itself (`lab.json`). No secrets: credentials are in the files
/// that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    /// The run's name.
    pub name: String,
    /// The lab process.
    pub owner: ProcessIdentity,
    /// Since when, wall clock.
    pub started: jiff::Timestamp,
    /// What it is doing, e.g. "forming" or "ready", for a person.
    pub phase: String,
    /// Its nodes.
    pub nodes: Vec<LiveNode>,
    /// The kubeconfig, once there is one.
    pub kubeconfig: Option<PathBuf>,
    /// The talosconfig, once there is one.
    pub talosconfig: Option<PathBuf>,
    /// The socket by which it can be asked for things.
    #[serde(default)]
    pub control: Option<PathBuf>,
}

/// A node of a live lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveNode {
    /// Its name.
    pub name: NodeName,
    /// What Kubernetes runs on it.
    pub kind: Kind,
    /// Which image it boots.
    pub role: Role,
    /// Its address on the lab LAN; not reachable from the host.
    pub address: Ipv4Addr,
    /// Its QEMU process, while there is one.
    pub pid: Option<u32>,
    /// Host addresses that are forwarded to it, by service (`machine-api`, `kubernetes-api`).
    pub forwards: BTreeMap<String, SocketAddr>,
    /// Its serial console's file.
    pub console: Option<PathBuf>,
}

/// A run whose owner lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLab {
    /// Its run directory.
    pub directory: PathBuf,
    /// What it published; `None` when it has not done so yet.
    pub state: Option<LabState>,
}

/// The live labs below `root`, by name.
///
/// # Errors
/// When `root` cannot be listed.
pub fn live_labs(root: &Path) -> Result<Vec<LiveLab>, RunDirectoryError> {
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let mut labs = Vec::new();
    for directory in run_directories(root)? {
        // A lock that is free belongs to a dead or finished run. Held for an instant only; a lab
        // takes its own lock before anybody else can see the directory.
        if let Ok(None) = FileLock::try_acquire(&directory.join(LOCK)) {
            let state = fs::read(directory.join(STATE)).ok();
            let state = state.and_then(|text| serde_json::from_slice(&text).ok());
            labs.push(LiveLab { directory, state });
        }
    }
    Ok(labs)
}

/// Why a live lab could not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It has not said which process it is.
    #[error("{run} has not published its process yet; try again in a second")]
    NotPublished {
        /// The run.
        run: String,
    },
    /// It did not end in time.
    #[error(
        "{run} (pid {pid}) still runs {patience:?} after it was asked to end; look at it, or end it with kill -9 {pid}: the next lab cleans up"
    )]
    StillRunning {
        /// The run.
        run: String,
        /// Its owner.
        pid: u32,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The system refused.
    #[error("ending {run} failed: {source}")]
    Io {
        /// The run.
        run: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl LiveLab {
    /// The run's name.
    pub fn name(&self) -> String {
        name_of(&self.directory)
    }

    /// Asks the lab to take its machines down and waits until it has ended, at most `patience`.
    /// Blocks.
    ///
    /// # Errors
    /// When it has not published its process, or does not end.
    pub fn stop(&self, patience: Duration) -> Result<(), StopError> {
        let run = self.name();
        let Some(state) = &self.state else { return Err(StopError::NotPublished { run }) };
        state.owner.terminate().map_err(|source| StopError::Io { run: run.clone(), source })?;
        // The owner's lock is the event: it is free the moment the process is gone. The thread
        // stays behind when time runs out, which ends with this command.
        let (tell, told) = mpsc::channel();
        let lock = self.directory.join(LOCK);
        std::thread::spawn(move || tell.send(FileLock::acquire(&lock).map(drop)));
        match told.recv_timeout(patience) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(StopError::Io { run, source }),
            Err(_) => Err(StopError::StillRunning { run, pid: state.owner.pid, patience }),
        }
    }
}
