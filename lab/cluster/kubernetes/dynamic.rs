//! Objects of any kind, as the manifests and checks of a user name them.

use std::time::Duration;

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy},
    core::{GroupVersionKind, TypeMeta},
    discovery::{self, Scope},
};
use lab_plan::{cluster::Manifest, own_checks::ObjectKey};
use serde_json::Value;

use super::access::{KubernetesApi, KubernetesError, answered};

/// The field manager: the API server stores it as the owner of applied fields.
const FIELD_MANAGER: &str = "lab";
/// The namespace of objects whose manifest and check name none.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The time limit of one request.
const REQUEST: Duration = Duration::from_secs(30);

/// Objects of one kind that have these labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub namespace: Option<&'a str>,
    /// A label selector, empty for all objects.
    pub labels: &'a str,
}

impl KubernetesApi {
    /// Creates or updates the object by server-side apply, like `kubectl apply --server-side`. Overrides conflicts with
    /// other field managers.
    ///
    /// # Errors
    /// When the API server does not know the kind, rejects the object, or does not respond.
    pub async fn apply(&self, manifest: &Manifest) -> Result<(), KubernetesError> {
        self.apply_in(manifest, DEFAULT_NAMESPACE).await.map(drop)
    }

    /// Like [`KubernetesApi::apply`], in `namespace` if the manifest names none. Returns the object as it is stored.
    ///
    /// # Errors
    /// Like [`KubernetesApi::apply`].
    pub async fn apply_in(&self, manifest: &Manifest, namespace: &str) -> Result<Value, KubernetesError> {
        let action = format!("apply {manifest}");
        let key = ObjectKey::of(manifest).or_in(namespace);
        let api = self.of_kind(&action, &key.api_version, &key.kind, key.namespace.as_deref()).await?;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&manifest.object);
        let stored = answered(action.clone(), REQUEST, api.patch(&key.name, &parameters, &patch)).await?;
        as_json(action, stored)
    }

    /// Returns the object, or `None` if it does not exist.
    ///
    /// # Errors
    /// When the API server does not know the kind, or does not respond.
    pub async fn object(&self, key: &ObjectKey) -> Result<Option<Value>, KubernetesError> {
        let action = format!("get {key}");
        let api = self.of_kind(&action, &key.api_version, &key.kind, key.namespace.as_deref()).await?;
        let found = answered(action.clone(), REQUEST, api.get_opt(&key.name)).await?;
        found.map(|object| as_json(action, object)).transpose()
    }

    /// Returns the objects of a kind in a namespace, or in all namespaces.
    ///
    /// # Errors
    /// When the API server does not know the kind, or does not respond.
    pub async fn objects(&self, of: &Selection<'_>) -> Result<Vec<Value>, KubernetesError> {
        let action = format!("list objects of the kind {}", of.kind);
        let api = self.of_kind(&action, of.api_version, of.kind, of.namespace).await?;
        let parameters = ListParams::default().labels(of.labels);
        let list = answered(action.clone(), REQUEST, api.list(&parameters)).await?;
        let whole = |mut object: DynamicObject| {
            // Elements of a list have no type of their own.
            object.types = Some(TypeMeta { api_version: of.api_version.into(), kind: of.kind.into() });
            as_json(action.clone(), object)
        };
        list.items.into_iter().map(whole).collect()
    }

    /// Deletes the object and what it owns. Returns whether it existed. The object can exist for some time afterwards.
    ///
    /// # Errors
    /// When the API server does not know the kind, rejects the request, or does not respond.
    pub async fn delete(&self, key: &ObjectKey) -> Result<bool, KubernetesError> {
        let action = format!("delete {key}");
        let api = self.of_kind(&action, &key.api_version, &key.kind, key.namespace.as_deref()).await?;
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Foreground),
            ..DeleteParams::default()
        };
        match answered(action, REQUEST, api.delete(&key.name, &parameters)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The API of a kind, as the API server describes it.
    async fn of_kind(
        &self,
        action: &str,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Result<Api<DynamicObject>, KubernetesError> {
        let types = TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() };
        let kind = GroupVersionKind::try_from(&types)
            .map_err(|error| kube::Error::Service(Box::new(error)))
            .map_err(KubernetesError::request(action))?;
        let client = self.client();
        let (resource, capabilities) =
            answered(action.to_owned(), REQUEST, discovery::pinned_kind(&client, &kind)).await?;
        Ok(match (capabilities.scope, namespace) {
            (Scope::Cluster, _) | (Scope::Namespaced, None) => Api::all_with(client, &resource),
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client, namespace, &resource),
        })
    }
}

fn as_json(action: String, object: DynamicObject) -> Result<Value, KubernetesError> {
    serde_json::to_value(object)
        .map_err(|error| KubernetesError::request(action)(kube::Error::SerdeError(error)))
}
