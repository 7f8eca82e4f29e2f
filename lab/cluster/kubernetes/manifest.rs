//! Applies a user's manifests, e.g. a CNI plugin, like `kubectl apply --server-side`.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, TypeMeta},
    discovery::{self, Scope},
};
use lab_plan::cluster::Manifest;

use super::access::{KubernetesApi, KubernetesError};

/// The field manager: the API server stores it as the owner of applied fields.
const FIELD_MANAGER: &str = "lab";

impl KubernetesApi {
    /// Creates or updates the object by server-side apply. Conflicts with other field managers are overridden.
    ///
    /// # Errors
    /// When the API server does not know the kind, rejects the object, or does not respond.
    pub async fn apply(&self, manifest: &Manifest) -> Result<(), KubernetesError> {
        let failed = || KubernetesError::request(format!("apply {manifest}"));
        let types = TypeMeta {
            api_version: manifest.text("/apiVersion").to_owned(),
            kind: manifest.text("/kind").to_owned(),
        };
        let kind = GroupVersionKind::try_from(&types).map_err(|error| {
            KubernetesError::request(format!("apply {manifest}"))(kube::Error::Service(Box::new(error)))
        })?;
        let (resource, capabilities) =
            discovery::pinned_kind(&self.client(), &kind).await.map_err(failed())?;
        let api: Api<DynamicObject> = match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client(), &resource),
            Scope::Namespaced => {
                let namespace = match manifest.text("/metadata/namespace") {
                    "" => "default",
                    given => given,
                };
                Api::namespaced_with(self.client(), namespace, &resource)
            }
        };
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let name = manifest.text("/metadata/name");
        api.patch(name, &parameters, &Patch::Apply(&manifest.object)).await.map_err(failed())?;
        Ok(())
    }
}
