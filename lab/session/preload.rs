//! Finds the preloaded disk of a cluster, or makes it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use lab_cluster::formation::{Cluster, Host, PreloadStore, Preloaded};
use lab_model::{
    events::{EventKind, Recorder, Subject, Subscription},
    node::Role,
    words::chain,
};
use lab_oci::{
    images::PullThrough,
    registry::{Registry, RegistryOptions, Store},
};
use lab_plan::cluster::{DiskContents, Plan, PreparedImage};
use lab_vm::host::NODES;

use super::{open::Session, start::ClusterRequest};

/// What a plan was made from.
pub(super) struct PlannedFrom {
    pub(super) store: Store,
    pub(super) images: BTreeMap<Role, PreparedImage>,
    pub(super) pull_through: Option<PullThrough>,
}

/// Why no disk was made.
struct Unmade {
    reason: String,
    /// Whether the reason is this host, so that another run may succeed.
    of_the_host: bool,
}

impl Unmade {
    fn because(error: &dyn std::error::Error) -> Self {
        Self { reason: chain(error), of_the_host: false }
    }

    fn of_the_host(error: &dyn std::error::Error) -> Self {
        Self { of_the_host: true, ..Self::because(error) }
    }
}

impl Session {
    /// The preloaded disk for the nodes of a plan that forms cold. Makes the disk if there is none yet, which takes as long
    /// as the start of a node and the pull of the images. `None` if the plan does not use one, or it cannot be had; the
    /// nodes then pull their images themselves.
    pub(super) async fn preloaded(
        &self,
        plan: &Plan,
        from: &PlannedFrom,
        directory: &Path,
    ) -> Option<Preloaded> {
        let contents =
            plan.preloaded_contents(|image| from.store.manifest(image).map(ToString::to_string))?;
        if contents.images.is_empty() || plan.faults.iter().any(|fault| !fault.comes_later()) {
            return None;
        }
        match self.found_or_made(plan, from, contents, directory).await {
            Ok(disk) => Some(disk),
            Err(reason) => {
                self.say(format!("no preloaded disk, so each node pulls its images itself: {reason}"));
                None
            }
        }
    }

    async fn found_or_made(
        &self,
        plan: &Plan,
        from: &PlannedFrom,
        contents: DiskContents,
        directory: &Path,
    ) -> Result<Preloaded, String> {
        let store = PreloadStore::new(self.cache("preloaded").map_err(|error| chain(&error))?);
        let looked = contents.clone();
        // Another run may be making the disk now.
        let found = tokio::task::spawn_blocking(move || store.find(&looked)).await;
        let right = match found.map_err(|error| error.to_string())?.map_err(|error| chain(&error))? {
            Ok(disk) => {
                let text = "nodes start from a preloaded disk, which an earlier run made";
                self.say(text.to_owned());
                return Ok(disk);
            }
            Err(right) => right,
        };
        let count = contents.images.len();
        self.say(format!(
            "preload: one node pulls the {count} images of this cluster, once; nodes start from copies of its disk"
        ));
        let began = std::time::Instant::now();
        let recorder = Recorder::new();
        let forwarded = tokio::spawn(forward(recorder.subscribe(), self.recorder.clone()));
        let made = self.made(plan, from, &contents, directory, recorder.clone()).await;
        recorder.close();
        let _ = forwarded.await;
        let (cluster, disk) = match made {
            Ok(made) => made,
            Err(Unmade { reason, of_the_host }) => {
                if !of_the_host {
                    // Otherwise the next run tries again, which costs time only.
                    let _ = right.give_up(reason.clone());
                }
                return Err(reason);
            }
        };
        let kept = tokio::task::spawn_blocking(move || right.keep(&disk)).await;
        cluster.shut_down().await;
        let (disk, bytes) = kept.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
        self.say(format!("preload: done in {:.0} s, {} MiB", began.elapsed().as_secs_f64(), bytes >> 20));
        Ok(disk)
    }

    /// Runs the node that makes the disk. Returns its cluster, which holds the disk, and the path of the disk.
    async fn made(
        &self,
        plan: &Plan,
        from: &PlannedFrom,
        contents: &DiskContents,
        directory: &Path,
        recorder: Recorder,
    ) -> Result<(Arc<Cluster>, PathBuf), Unmade> {
        let request = ClusterRequest::new(plan.preloading_spec());
        let inputs = self.planning().inputs(&request, from.images.clone(), &from.store, plan.budgets.clone());
        let plan = Plan::new(request.spec, inputs).map_err(|error| Unmade::because(&error))?;
        let registry = Registry::start(RegistryOptions {
            store: from.store.clone(),
            pull_through: from.pull_through.clone(),
            recorder: recorder.clone(),
        });
        let registry = registry.await.map_err(|error| Unmade::of_the_host(&error))?;
        let host = Host { recorder, directory: directory.join("preload"), ..self.host(directory) };
        let cluster = Cluster::start(plan, registry, None, host).await;
        let cluster = cluster.map_err(|error| Unmade::of_the_host(&error))?;
        let cluster = Arc::new(cluster);
        match cluster.preload(&contents.images).await {
            Ok(disk) => Ok((cluster, disk)),
            Err(error) => {
                cluster.shut_down().await;
                let console = cluster.directory().join(NODES);
                let reason = format!("{}; its console is below {}", chain(&error), console.display());
                Err(Unmade { reason, of_the_host: error.is_of_the_host() })
            }
        }
    }

    fn say(&self, text: String) {
        self.planning().note(text);
    }
}

/// Shows the notes of the node as those of the run.
async fn forward(mut events: Subscription, to: Recorder) {
    while let Some(event) = events.recv().await {
        if let EventKind::Note { subject: Subject::Node(_), text } = event.kind {
            to.record(EventKind::Note { subject: Subject::Cluster, text: format!("preload: {text}") });
        }
    }
}
