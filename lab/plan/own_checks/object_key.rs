//! The name of an object in a Kubernetes cluster.

use std::fmt;

use serde::Serialize;

use crate::cluster::Manifest;

/// Type, namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectKey {
    pub api_version: String,
    pub kind: String,
    /// The namespace, if the manifest names one. Objects without a namespace ignore it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectKey {
    /// The key of a manifest's object.
    pub fn of(manifest: &Manifest) -> Self {
        let namespace = Some(manifest.text("/metadata/namespace")).filter(|name| !name.is_empty());
        Self {
            api_version: manifest.text("/apiVersion").to_owned(),
            kind: manifest.text("/kind").to_owned(),
            namespace: namespace.map(str::to_owned),
            name: manifest.text("/metadata/name").to_owned(),
        }
    }

    /// The same object in `namespace`, if its manifest names none.
    #[must_use]
    pub fn or_in(mut self, namespace: &str) -> Self {
        self.namespace.get_or_insert_with(|| namespace.to_owned());
        self
    }
}

impl fmt::Display for ObjectKey {
    /// As kubectl writes it: `Deployment/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}
