//! Decides whether a cluster starts warm: which saved cluster matches, or why none does.

use std::path::PathBuf;

use lab_cluster::{
    formation::{Lookup, SavedImages, SavedStage, Snapshot, Warm, WarmKey, WarmStore},
    tailnet::SavedControlServer,
};
use lab_model::events::EventKind;
use lab_oci::registry::Store;
use lab_plan::{cluster::Plan, scenario::Start};

use super::{
    open::{Session, SessionError},
    start::{ClusterRequest, StartError},
};

impl Session {
    /// The store of saved clusters.
    pub fn warm_store(&self) -> Result<WarmStore, SessionError> {
        Ok(WarmStore::new(self.cache("warm")?))
    }

    /// The absolute path of a directory that is kept between runs.
    pub(super) fn cache(&self, name: &str) -> Result<PathBuf, SessionError> {
        std::path::absolute(self.options.root.join("cache").join(name))
            .map_err(|source| SessionError::Host { action: "find the present directory".into(), source })
    }

    /// Finds a saved cluster for a plan. Reports whether the cluster starts warm or cold, and why.
    pub(super) async fn warm(
        &self,
        request: &ClusterRequest,
        plan: &Plan,
        store: &Store,
    ) -> Result<Option<Warm>, StartError> {
        if request.faults.iter().any(|fault| !fault.comes_later()) {
            self.tell(false, "a fault is injected".into());
            return Ok(None);
        }
        let digest = |image: String| {
            let digest = store.manifest(&image).map(ToString::to_string).unwrap_or_default();
            (image, digest)
        };
        let images: SavedImages = plan.pulled_images().map(|(image, _)| digest(image)).collect();
        let key_of = |stage| WarmKey::of(plan, &self.qemu, &images, stage);
        let late = self.is_configured_late(plan);
        let key = key_of(if late { SavedStage::Configured } else { SavedStage::Formed });
        let warm = self.warm_store()?;
        if let Some(name) = &request.snapshot {
            let found = self.found(&warm, key.clone().named(name.clone())).await?;
            let snapshot = found.map_err(|reason| StartError::Snapshot { name: name.clone(), reason })?;
            self.tell(true, format!("{name}, as it was saved at {:.0}", snapshot.saved.saved));
            return Ok(Some(Warm { store: warm, restore: Some(snapshot), key, keep: Vec::new() }));
        }
        if self.options.cold || request.start == Start::Cold {
            let reason = if self.options.cold { "as requested" } else { "a new cluster is requested" };
            self.tell(false, reason.into());
            return Ok(Some(Warm { store: warm, restore: None, key, keep: Vec::new() }));
        }
        let (mut restore, mut keep, mut reasons) = (None, Vec::new(), Vec::new());
        if late {
            match self.found(&warm, key.clone()).await? {
                Ok(snapshot) => restore = Some(snapshot),
                Err(reason) if request.keep == SavedStage::Configured => reasons.push(reason),
                // The user did not request this snapshot; it would only have been faster.
                Err(_) => {}
            }
        }
        if restore.is_none() {
            match self.found(&warm, key_of(SavedStage::Formed)).await? {
                Ok(snapshot) => restore = Some(snapshot),
                Err(reason) => reasons.push(reason),
            }
            if late && request.keep == SavedStage::Configured {
                keep.push(key.clone());
            } else if restore.is_none() {
                keep.push(key_of(SavedStage::Formed));
            }
        }
        match &restore {
            Some(snapshot) => self.tell(true, format!("as it was saved at {:.0}", snapshot.saved.saved)),
            None => self.tell(false, format!("{}; it will be saved", reasons.join("; "))),
        }
        Ok(Some(Warm { store: warm, restore, key, keep }))
    }

    /// Whether steps after node start can be saved with the nodes: late documents, or a tailnet of the run.
    fn is_configured_late(&self, plan: &Plan) -> bool {
        let documents = plan.nodes.iter().any(|node| !plan.late_documents(node).is_empty());
        self.options.tailnet.is_none() && (documents || plan.spec.tailnet.is_some())
    }

    /// The saved cluster of a key, or why none is usable. The store is an optimization, so its errors are
    /// reasons, too.
    async fn found(&self, store: &WarmStore, key: WarmKey) -> Result<Result<Snapshot, String>, SessionError> {
        let store = store.clone();
        let found = tokio::task::spawn_blocking(move || store.find(&key)).await;
        let found = found.map_err(|error| SessionError::Host {
            action: "look for a warm cluster".into(),
            source: std::io::Error::other(error),
        })?;
        Ok(match found {
            Ok(Lookup::Found(snapshot)) => match control_server_can_be_had(&snapshot) {
                Ok(()) => Ok(*snapshot),
                Err(reason) => Err(reason),
            },
            Ok(Lookup::Cold(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        })
    }

    fn tell(&self, warm: bool, reason: String) {
        self.recorder.record(EventKind::ClusterStarts { warm, reason });
    }
}

/// Nodes connect to the control server of their tailnet by its ports.
fn control_server_can_be_had(snapshot: &Snapshot) -> Result<(), String> {
    let Some(directory) = snapshot.control_server() else { return Ok(()) };
    let saved = SavedControlServer::read(&directory).map_err(|error| error.to_string())?;
    match saved.taken_port() {
        None => Ok(()),
        Some(port) => Err(format!("port {port}, at which its nodes know the tailnet, is taken on this host")),
    }
}
