//! Kubernetes objects in their original form, e.g. the manifests of a user's network plugin.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An object of a manifest file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The source file.
    pub origin: String,
    /// The object with the keys `apiVersion`, `kind` and `metadata.name`.
    pub object: Value,
}

impl Manifest {
    /// Creates an object from a document of `origin`. Returns `None` for an empty document.
    ///
    /// # Errors
    /// Returns a message if the object lacks a required key.
    pub fn new(origin: &str, object: Value) -> Option<Result<Self, String>> {
        if object.is_null() {
            return None;
        }
        let lacks = ["/apiVersion", "/kind", "/metadata/name"]
            .into_iter()
            .find(|key| object.pointer(key).and_then(Value::as_str).is_none());
        Some(match lacks {
            Some(key) => Err(format!("an object has no {}", key[1..].replace('/', "."))),
            None => Ok(Self { origin: origin.to_owned(), object }),
        })
    }

    /// Returns the images of all containers in every pod template.
    pub fn images(&self) -> Vec<String> {
        let mut images = Vec::new();
        collect_images(&self.object, &mut images);
        images
    }

    /// Returns the text at a JSON pointer, or an empty text.
    pub fn text(&self, pointer: &str) -> &str {
        self.object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

impl std::fmt::Display for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} of {}", self.text("/kind"), self.text("/metadata/name"), self.origin)
    }
}

fn collect_images(value: &Value, images: &mut Vec<String>) {
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                if matches!(key.as_str(), "containers" | "initContainers") {
                    let of_containers = value.as_array().into_iter().flatten();
                    images.extend(
                        of_containers.filter_map(|one| one.get("image")?.as_str()).map(str::to_owned),
                    );
                }
                collect_images(value, images);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect_images(value, images)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_without_what_every_object_has_is_refused_and_an_empty_document_is_none() {
        assert_eq!(Manifest::new("cni.yaml", Value::Null), None);
        let refused = |object| Manifest::new("cni.yaml", object).expect("some").expect_err("refused");
        assert_eq!(refused(json!({ "kind": "Pod" })), "an object has no apiVersion");
        assert_eq!(
            refused(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {} })),
            "an object has no metadata.name"
        );
    }

    #[test]
    fn images_are_found_wherever_pods_are_described() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "cni" },
            "spec": { "template": { "spec": {
                "initContainers": [{ "name": "a", "image": "example.org/install:v1" }],
                "containers": [{ "name": "b", "image": "example.org/agent:v1" }, { "name": "c" }],
            }}},
        });
        let manifest = Manifest::new("cni.yaml", object).expect("some").expect("an object");
        assert_eq!(manifest.to_string(), "DaemonSet cni of cni.yaml");
        let mut images = manifest.images();
        images.sort();
        assert_eq!(images, ["example.org/agent:v1", "example.org/install:v1"]);
    }
}
