//! Saving a cluster that has just formed.

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
    files::{Sum, copy, sum_of},
    key::{SavedStage, WarmKey},
    saved::{SavedAccess, SavedCluster, SavedFile, SavedNode},
    store::{CONTROL_SERVER, Draft, WarmError, WarmStore},
};
use crate::{
    formation::{FormedCluster, NoMachine, NotFormed, Tailnet},
    kubernetes::{CLUSTER_DNS, ready_endpoint},
    tailnet::TailnetError,
};

/// Bytes that warm clusters may take together before the one that was not used for longest goes.
pub(crate) const LIMIT: u64 = 16 << 30;

/// How long cluster DNS may take until it is ready, on the reference host.
const SETTLE: Duration = Duration::from_secs(60);

/// Why a cluster was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The store.
    #[error(transparent)]
    Store(#[from] WarmError),
    /// The tailnet.
    #[error(transparent)]
    Tailnet(#[from] TailnetError),
    /// A disk could not be copied, or a file not be read again.
    #[error("copy the disk or the memory of {node}: {source}")]
    Copy {
        /// Whose.
        node: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The cluster has not formed.
    #[error("there is nothing to save: {0}")]
    NotFormed(#[from] NotFormed),
    /// A node has no machine whose memory could be saved.
    #[error("there is nothing to save of a node: {0}")]
    NoMachine(#[from] NoMachine),
    /// A fault was put into the cluster, which no other run is to get.
    #[error("a cluster with a fault put into it is not saved")]
    Faulty,
}

/// What saving took.
#[derive(Clone, Copy, Debug)]
pub struct SaveFigures {
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds that the nodes stood still.
    pub stood_still: f64,
}

/// A node with its machine.
type Running<'a> = (&'a NodePlan, Arc<Machine>);

impl FormedCluster {
    /// Saves the formed cluster under `key` and says so. It goes on as if nothing had happened; what
    /// goes wrong costs the next run its warm start and nothing else.
    pub(crate) async fn keep_warm(&self, store: &WarmStore, key: &WarmKey, formed_in: f64) {
        self.settle().await;
        let began = Instant::now();
        let text = match self.save_to(store, key, formed_in).await {
            Ok(pause) => format!(
                "saved as a warm cluster in {:.1} s, {pause:.1} s of which its nodes stood still",
                began.elapsed().as_secs_f64()
            ),
            Err(error) => format!("not saved as a warm cluster: {}", chain(&error)),
        };
        self.cluster().recorder().record(EventKind::Note { subject: Subject::Cluster, text });
    }

    /// Waits for cluster DNS, which starts once nodes are Ready: otherwise each restored cluster would
    /// have to start it again. A cluster without it is saved as it is.
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

    /// Saves the cluster, as it is now, under a name.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub async fn save_as(&self, name: NodeName) -> Result<SaveFigures, SaveError> {
        let (store, key) = self.cluster().saved_as.as_ref().ok_or(SaveError::Faulty)?;
        let began = Instant::now();
        let stood_still = self.save_to(store, &key.clone().named(name), 0.0).await?;
        Ok(SaveFigures { seconds: began.elapsed().as_secs_f64(), stood_still })
    }

    /// Saves the cluster; returns how many seconds its nodes stood still.
    ///
    /// # Errors
    /// See [`SaveError`]. The nodes run on all the same.
    pub async fn save_to(&self, store: &WarmStore, key: &WarmKey, formed_in: f64) -> Result<f64, SaveError> {
        // Disks of nodes that have just formed are nearly empty.
        let draft = store.begin(key, self.plan().spec.total_memory().bytes())?;
        let format = MemoryFormat::best(&self.cluster().host.qemu);
        let machine = |node| Ok((node, self.cluster().node_of(node).machine()?));
        let running: Vec<Running<'_>> =
            self.plan().nodes.iter().map(machine).collect::<Result<_, SaveError>>()?;
        let began = Instant::now();
        let saved = jiff::Timestamp::now();
        let control_server = self
            .cluster()
            .tailnet()
            .and_then(Tailnet::control)
            .filter(|_| key.stage == SavedStage::Configured);
        let copied = stand_still(&running, || async {
            let server = async {
                match control_server {
                    Some(server) => Ok(server.save(&draft.file(CONTROL_SERVER)).await?),
                    None => Ok(()),
                }
            };
            try_join(self.copy_all(&draft, format, &running), server).await.map(|(disks, ())| disks)
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
        draft.commit(&manifest, &access, &self.plan().spec)?;
        // What a user saved under a name goes when its user says so.
        if key.name.is_none() {
            store.prune(LIMIT)?;
        }
        Ok(stood_still)
    }

    /// Memory first: when QEMU has written it, nothing changes the disk any more.
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

/// Stops all machines at once, does the work, and lets them go on whatever came of it.
async fn stand_still<T, F>(running: &[Running<'_>], work: impl FnOnce() -> F) -> Result<T, SaveError>
where
    F: Future<Output = Result<T, SaveError>>,
{
    let stopped = join_all(running.iter().map(|(_, machine)| machine.pause())).await;
    let result = match stopped.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(_) => work().await,
        Err(error) => Err(error.into()),
    };
    let resumed = join_all(running.iter().map(|(_, machine)| machine.resume())).await;
    resumed.into_iter().collect::<Result<Vec<_>, _>>()?;
    result
}

/// What is written down of a node; its memory is read once more, for QEMU wrote it.
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

/// QEMU writes with the process' own mask.
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
