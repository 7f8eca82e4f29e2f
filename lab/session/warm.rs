//! Whether a cluster starts warm: which saved one it is, or why it is none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    open::{Session, SessionError},
    start::{ClusterRequest, StartError},
};
use crate::{
    cluster::{Lookup, Plan, SavedImages, Warm, WarmKey, WarmStore},
    events::Happening,
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
        let why_cold = if self.options.cold {
            Some("as asked for")
        } else if request.start == Start::Cold {
            Some("its formation is what is looked at")
        } else if request.faults.is_empty() {
            None
        } else {
            Some("a fault is put into it")
        };
        if let Some(reason) = why_cold {
            self.tell(false, reason.into());
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
                self.tell(true, format!("as it was saved at {:.0}", snapshot.saved.saved));
                Ok(Some(Warm::Restore(snapshot)))
            }
            Ok(Lookup::Cold(reason)) => {
                self.tell(false, format!("{reason}; it will be saved"));
                Ok(Some(Warm::Save(warm, key)))
            }
            // The store is a convenience; a cluster forms without it.
            Err(error) => {
                self.tell(false, error.to_string());
                Ok(None)
            }
        }
    }

    fn tell(&self, warm: bool, reason: String) {
        self.recorder.record(Happening::ClusterStarts { warm, reason });
    }
}
