//! The labs that run on this host now. `lab status` lists them and `lab down` stops them.

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

/// The published state of a live lab (`lab.json`). Contains no secrets: the credentials are in the
/// files that it references.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabState {
    pub name: String,
    pub owner: ProcessIdentity,
    /// Start time, wall clock.
    pub started: jiff::Timestamp,
    /// The current phase, e.g. "forming" or "ready", for people.
    pub phase: String,
    /// The name of the cluster; `None` if another version of the lab published the state.
    #[serde(default)]
    pub cluster: Option<NodeName>,
    pub nodes: Vec<LiveNode>,
    /// The kubeconfig, once it exists.
    pub kubeconfig: Option<PathBuf>,
    /// The talosconfig, once it exists.
    pub talosconfig: Option<PathBuf>,
    /// The socket that accepts requests to the lab.
    #[serde(default)]
    pub control: Option<PathBuf>,
}

/// A node of a live lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveNode {
    pub name: NodeName,
    /// The Kubernetes components that run on the node.
    pub kind: Kind,
    /// The role of the image that the node boots.
    pub role: Role,
    /// Address on the lab LAN; not reachable from the host.
    pub address: Ipv4Addr,
    /// Process ID of the node's QEMU, while it runs.
    pub pid: Option<u32>,
    /// Host addresses that are forwarded to the node, by service (`machine-api`, `kubernetes-api`).
    pub forwards: BTreeMap<String, SocketAddr>,
    /// The file with the output of the serial console.
    pub console: Option<PathBuf>,
}

/// A run with a living owner process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLab {
    pub directory: PathBuf,
    /// The published state; `None` before the first publication.
    pub state: Option<LabState>,
}

/// The live labs in `root`, sorted by name.
///
/// # Errors
/// Fails if `root` cannot be listed.
pub fn live_labs(root: &Path) -> Result<Vec<LiveLab>, RunDirectoryError> {
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    Ok(run_directories(root)?.into_iter().filter_map(LiveLab::in_directory).collect())
}

/// The reason why a live lab could not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The lab has not published its process yet.
    #[error("{run} has not published its process yet; try again in a second")]
    NotPublished {
        /// The name of the run.
        run: String,
    },
    /// The lab did not end in time.
    #[error(
        "{run} (pid {pid}) still runs {patience:?} after it was asked to end; look at it, or end it with kill -9 {pid}: the next lab cleans up"
    )]
    StillRunning {
        run: String,
        /// The process ID of the owner.
        pid: u32,
        /// The time that the command waited.
        patience: Duration,
    },
    /// The operating system returned an error.
    #[error("ending {run} failed: {source}")]
    Io {
        run: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

impl LiveLab {
    /// The lab that runs in a directory, if one does.
    pub fn in_directory(directory: PathBuf) -> Option<Self> {
        // A free lock belongs to a dead or finished run. This check holds the lock only briefly. A
        // lab takes its own lock before any other process can see the directory.
        let Ok(None) = FileLock::try_acquire(&directory.join(LOCK)) else { return None };
        let state = fs::read(directory.join(STATE)).ok();
        let state = state.and_then(|text| serde_json::from_slice(&text).ok());
        Some(Self { directory, state })
    }

    pub fn name(&self) -> String {
        name_of(&self.directory)
    }

    /// Requests the lab to stop its machines and waits until it has ended, for at most `patience`.
    /// Blocks.
    ///
    /// # Errors
    /// Fails if the lab has not published its process, or does not end.
    pub fn stop(&self, patience: Duration) -> Result<(), StopError> {
        let run = self.name();
        let Some(state) = &self.state else { return Err(StopError::NotPublished { run }) };
        state.owner.terminate().map_err(|source| StopError::Io { run: run.clone(), source })?;
        // The owner's lock is the event: the kernel frees it as soon as the process ends. After a
        // timeout the thread keeps waiting until this command ends.
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
