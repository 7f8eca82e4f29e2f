//! Whether a cluster starts warm: which saved one it is, or why it is none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    open::{Session, SessionError},
    start::{ClusterRequest, StartError},
};
use crate::{
    cluster::{Lookup, Plan, SavedImages, Warm, WarmKey, WarmStore},
    events::{Happening, Subject},
    registry::Store,
};

/// How a cluster comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// It is restored when one like it was saved before; else it forms, and is saved.
    #[default]
    Warm,
    /// It forms.
    Cold,
}

impl Session {
    /// Where saved clusters are kept.
    pub fn warm_store(&self) -> Result<WarmStore, SessionError> {
        Ok(WarmStore::new(self.cache("warm")?))
    }

    /// A directory of what is kept between runs, absolute.
    pub(super) fn cache(&self, name: &str) -> Result<PathBuf, SessionError> {
        std::path::absolute(self.options.root.join("cache").join(name))
            .map_err(|source| SessionError::Host { action: "find the present directory".into(), source })
    }

    /// What the store has for a plan; says which way the cluster starts, and why.
    pub(super) async fn warm(
        &self,
        request: &ClusterRequest,
        plan: &Plan,
        store: &Store,
    ) -> Result<Option<Warm>, StartError> {
        if request.start == Start::Cold || self.options.cold {
            return Ok(None);
        }
        if !request.faults.is_empty() {
            self.tell("starts cold: a fault is put into it".into());
            return Ok(None);
        }
        let digest = |image: String| {
            let digest = store.manifest(&image).map(ToString::to_string).unwrap_or_default();
            (image, digest)
        };
        let images: SavedImages = plan.pulled_images().map(|(image, _)| digest(image)).collect();
        let (warm, key) = (self.warm_store()?, WarmKey::of(plan, &self.qemu, &images));
        let (lookup, wanted) = (warm.clone(), key.clone());
        let found = tokio::task::spawn_blocking(move || lookup.find(&wanted)).await.map_err(|error| {
            SessionError::Host {
                action: "look for a warm cluster".into(),
                source: std::io::Error::other(error),
            }
        })?;
        match found {
            Ok(Lookup::Found(snapshot)) => {
                self.tell(format!(
                    "starts warm, from the cluster that was saved at {:.0}",
                    snapshot.saved.saved
                ));
                Ok(Some(Warm::Restore(snapshot)))
            }
            Ok(Lookup::Cold(reason)) => {
                self.tell(format!("starts cold and will be saved: of its warm clusters, {reason}"));
                Ok(Some(Warm::Save(warm, key)))
            }
            // The store is a convenience; a cluster forms without it.
            Err(error) => {
                self.tell(format!("starts cold: {error}"));
                Ok(None)
            }
        }
    }

    fn tell(&self, text: String) {
        self.recorder.record(Happening::Note { subject: Subject::Cluster, text });
    }
}
