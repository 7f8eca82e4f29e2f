//! Saves a cluster that has just formed.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join, try_join_all};
use lab_model::{
    events::{EventKind, Subject},
    node::NodeName,
    words::chain,
};
use lab_plan::cluster::NodePlan;
use lab_vm::machine::{Machine, MachineError, MemoryFormat, SavedMemory};

use super::{
    key::{SavedStage, WarmKey},
    saved::{SavedAccess, SavedCluster, SavedFile, SavedNode},
    store::{CONTROL_SERVER, Draft, WarmError, WarmStore},
};
use crate::{
    formation::{
        FormedCluster, NoMachine, NotFormed, Tailnet,
        disk_files::{Sum, copy, sum_of},
    },
    kubernetes::{CLUSTER_DNS, ready_endpoint},
    tailnet::TailnetError,
};

/// Maximum disk usage of all warm clusters, in bytes; above it, the least recently used cluster is removed.
pub(crate) const LIMIT: u64 = 16 << 30;

/// Time limit for cluster DNS to become ready, on the reference host.
const SETTLE: Duration = Duration::from_secs(60);

/// Why a cluster was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Store(#[from] WarmError),
    #[error(transparent)]
    Tailnet(#[from] TailnetError),
    /// A disk could not be copied, or a saved file could not be read back.
    #[error("copy the disk or the memory of {node}: {source}")]
    Copy { node: String, source: std::io::Error },
    #[error("there is nothing to save: {0}")]
    NotFormed(#[from] NotFormed),
    /// A node has no machine, and so no memory to save.
    #[error("a node cannot be saved: {0}")]
    NoMachine(#[from] NoMachine),
    /// A fault was injected into the cluster, and no other run may reuse it.
    #[error("a cluster with an injected fault cannot be saved")]
    Faulty,
}

/// Durations of a save.
#[derive(Clone, Copy, Debug)]
pub struct SaveFigures {
    /// Total seconds.
    pub seconds: f64,
    /// Seconds during which the nodes were paused.
    pub stood_still: f64,
}

type Running<'a> = (&'a NodePlan, Arc<Machine>);

/// What the nodes do when the cluster is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterSave {
    /// They run on.
    Resume,
    /// They stay paused, so that what was saved is the last that happened. After an error they run on.
    StandStill,
}

impl FormedCluster {
    /// Saves the formed cluster under `key` and reports it. The cluster continues to run; an error only costs
    /// the next run its warm start.
    pub(crate) async fn keep_warm(&self, store: &WarmStore, key: &WarmKey, formed_in: f64) {
        self.settle().await;
        let began = Instant::now();
        let text = match self.save_to(store, key, formed_in, AfterSave::Resume).await {
            Ok(pause) => format!(
                "saved as a warm cluster in {:.1} s, {pause:.1} s of which its nodes stood still",
                began.elapsed().as_secs_f64()
            ),
            Err(error) => format!("not saved as a warm cluster: {}", chain(&error)),
        };
        self.cluster().recorder().record(EventKind::Note { subject: Subject::Cluster, text });
    }

    /// Waits for cluster DNS, which starts after the nodes are Ready: otherwise each restored cluster would
    /// have to start it again. A cluster without cluster DNS is saved as it is.
    async fn settle(&self) {
        if !self.plan().has_cluster_dns() {
            return;
        }
        let limit = self.plan().budgets.on_this_host(SETTLE);
        if let Err(error) = ready_endpoint(self.kubernetes(), CLUSTER_DNS, limit).await {
            let text = format!("saved without waiting for cluster DNS: {}", chain(&error));
            self.cluster().recorder().record(EventKind::Note { subject: Subject::Cluster, text });
        }
    }

    /// Saves the current state of the cluster under a name.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub async fn save_as(&self, name: NodeName, after: AfterSave) -> Result<SaveFigures, SaveError> {
        let (store, key) = self.cluster().saved_as.as_ref().ok_or(SaveError::Faulty)?;
        let began = Instant::now();
        let stood_still = self.save_to(store, &key.clone().named(name), 0.0, after).await?;
        Ok(SaveFigures { seconds: began.elapsed().as_secs_f64(), stood_still })
    }

    /// Saves the cluster; returns the durations.
    ///
    /// # Errors
    /// See [`SaveError`]. After an error the nodes continue to run.
    pub async fn save_to(
        &self,
        store: &WarmStore,
        key: &WarmKey,
        formed_in: f64,
        after: AfterSave,
    ) -> Result<f64, SaveError> {
        let machine = |node| Ok((node, self.cluster().node_of(node).machine()?));
        let running: Vec<Running<'_>> =
            self.plan().nodes.iter().map(machine).collect::<Result<_, SaveError>>()?;
        let saved = self.write(store, key, formed_in, &running, after).await;
        if saved.is_err() && after == AfterSave::StandStill {
            resume(&running).await?;
        }
        saved
    }

    async fn write(
        &self,
        store: &WarmStore,
        key: &WarmKey,
        formed_in: f64,
        running: &[Running<'_>],
        after: AfterSave,
    ) -> Result<f64, SaveError> {
        // The disks of nodes that have just formed are nearly empty.
        let draft = store.begin(key, self.plan().spec.total_memory().bytes())?;
        let format = MemoryFormat::best(&self.cluster().host.qemu);
        let began = Instant::now();
        let saved = jiff::Timestamp::now();
        let control_server = self
            .cluster()
            .tailnet()
            .and_then(Tailnet::control)
            .filter(|_| key.stage == SavedStage::Configured);
        let copied = stand_still(running, after, || async {
            let server = async {
                match control_server {
                    Some(server) => Ok(server.save(&draft.file(CONTROL_SERVER)).await?),
                    None => Ok(()),
                }
            };
            try_join(self.copy_all(&draft, format, running), server).await.map(|(disks, ())| disks)
        })
        .await;
        let stood_still = began.elapsed().as_secs_f64();
        let disks = copied?;
        let nodes = running.iter().zip(disks).map(|((node, _), disk)| summed(&draft, node, disk));
        let nodes = try_join_all(nodes).await?;
        let manifest = SavedCluster {
            key: key.clone(),
            saved,
            memory: format,
            nodes,
            control_server: match control_server {
                Some(_) => control_server_files(&draft)?,
                None => Vec::new(),
            },
            formed_in,
            stood_still,
            saved_in: began.elapsed().as_secs_f64(),
        };
        let access = SavedAccess {
            secrets: self.plan().secrets.clone(),
            talosconfig: self.plan().talosconfig.clone(),
            kubeconfig: self.kubeconfig().to_owned(),
        };
        let directory = draft.commit(&manifest, &access, &self.plan().spec)?;
        match &key.name {
            // Only the user removes a cluster that the user saved under a name, or saves another one under it.
            Some(name) => store.remove_others(name, &directory)?,
            None => drop(store.prune(LIMIT)?),
        }
        Ok(stood_still)
    }

    /// Saves memory first: after QEMU has written the memory, nothing changes the disk.
    async fn copy_all(
        &self,
        draft: &Draft,
        format: MemoryFormat,
        running: &[Running<'_>],
    ) -> Result<Vec<Sum>, SaveError> {
        let memory = running.iter().map(|(node, machine)| async move {
            let file = draft.file(&memory_file(node));
            machine.save(&SavedMemory { file, format }).await
        });
        try_join_all(memory).await?;
        let disks = running.iter().map(|(node, _)| async move {
            let (from, to) = (self.cluster().disk_of(node), draft.file(&disk_file(node)));
            blocking(node, move || copy(&from, &to)).await
        });
        try_join_all(disks).await
    }
}

/// The files of a control server that was saved with the cluster.
fn control_server_files(draft: &Draft) -> Result<Vec<SavedFile>, SaveError> {
    let failed = |source| SaveError::Copy { node: "the control server".into(), source };
    let entries = std::fs::read_dir(draft.file(CONTROL_SERVER)).map_err(failed)?;
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.map_err(failed)?;
        let name = format!("{CONTROL_SERVER}/{}", entry.file_name().to_string_lossy());
        Ok(SavedFile { sum: sum_of(&entry.path()).map_err(failed)?, file: name })
    };
    entries.map(file).collect()
}

/// Pauses all machines at once, does the work, and resumes the machines if they are to run on or the work failed.
async fn stand_still<T, F>(
    running: &[Running<'_>],
    after: AfterSave,
    work: impl FnOnce() -> F,
) -> Result<T, SaveError>
where
    F: Future<Output = Result<T, SaveError>>,
{
    let stopped = join_all(running.iter().map(|(_, machine)| machine.pause())).await;
    let result = match stopped.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(_) => work().await,
        Err(error) => Err(error.into()),
    };
    if result.is_err() || after == AfterSave::Resume {
        resume(running).await?;
    }
    result
}

/// Resumes all machines at once.
async fn resume(running: &[Running<'_>]) -> Result<(), SaveError> {
    let resumed = join_all(running.iter().map(|(_, machine)| machine.resume())).await;
    resumed.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(())
}

/// The manifest entry of a node; reads the memory file back because QEMU wrote it.
async fn summed(draft: &Draft, node: &NodePlan, disk: Sum) -> Result<SavedNode, SaveError> {
    let memory = draft.file(&memory_file(node));
    restrict(&memory).map_err(|source| SaveError::Copy { node: node.spec.name.to_string(), source })?;
    let sum = blocking(node, move || sum_of(&memory)).await?;
    Ok(SavedNode {
        name: node.spec.name.clone(),
        memory: SavedFile { file: memory_file(node), sum },
        disk: SavedFile { file: disk_file(node), sum: disk },
    })
}

/// QEMU creates files with the umask of its process.
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

async fn blocking<T: Send + 'static>(
    node: &NodePlan,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, SaveError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other);
    done.and_then(|done| done).map_err(|source| SaveError::Copy { node: node.spec.name.to_string(), source })
}

fn memory_file(node: &NodePlan) -> String {
    format!("{}.memory", node.spec.name)
}

fn disk_file(node: &NodePlan) -> String {
    format!("{}.disk", node.spec.name)
}
