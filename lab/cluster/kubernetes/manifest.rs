//! Kubernetes objects as their authors wrote them: a user's CNI, applied as `kubectl apply` would.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{GroupVersionKind, TypeMeta},
    discovery::{self, Scope},
};
use lab_plan::cluster::Manifest;

use super::access::{KubernetesApi, KubernetesError};

/// Who the API server notes as the owner of applied fields.
const FIELD_MANAGER: &str = "lab";

impl KubernetesApi {
    /// Creates the object or brings it in line, by server-side apply.
    ///
    /// # Errors
    /// When the server does not know the kind or refuses the object.
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
