//! The parsed part of a manifest, as required for serving it.

use std::collections::BTreeMap;

use lab_model::Digest;
use oci_client::manifest::{OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

/// A limit in bytes, above the size of any manifest. The specification requires registries to accept 4 MiB
/// ("Pushing Manifests").
pub(super) const LIMIT: u64 = 4 << 20;

/// A manifest or an index (OCI image specification v1.1), or the equivalent Docker format.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedManifest {
    media_type: Option<String>,
    artifact_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<ManifestConfig>,
    subject: Option<ManifestSubject>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestConfig {
    media_type: String,
}

#[derive(Deserialize)]
struct ManifestSubject {
    digest: String,
}

impl ServedManifest {
    /// Parses a manifest. Returns `None` for other content, such as a config or a layer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let manifest: Self = serde_json::from_slice(bytes).ok()?;
        (manifest.config.is_some() || manifest.manifests.is_some()).then_some(manifest)
    }

    /// Returns the media type. OCI manifests may omit the field, so the fallback is the manifest structure.
    pub fn media_type(&self) -> &str {
        let by_shape =
            if self.manifests.is_some() { OCI_IMAGE_INDEX_MEDIA_TYPE } else { OCI_IMAGE_MEDIA_TYPE };
        self.media_type.as_deref().unwrap_or(by_shape)
    }

    /// Reports whether the manifest refers to `subject`.
    pub fn refers_to(&self, subject: &Digest) -> bool {
        self.subject.as_ref().is_some_and(|own| own.digest == subject.to_string())
    }

    /// Returns the artifact type from its field, otherwise from the config ("Listing Referrers").
    pub(super) fn artifact_type(&self) -> Option<&str> {
        let of_config = self.config.as_ref().map(|config| config.media_type.as_str());
        self.artifact_type.as_deref().filter(|text| !text.is_empty()).or(of_config)
    }

    /// Returns the descriptor for a list of referrers.
    pub fn descriptor(&self, digest: &Digest, size: usize) -> Value {
        let mut descriptor =
            json!({ "mediaType": self.media_type(), "digest": digest.to_string(), "size": size });
        if let Some(artifact_type) = self.artifact_type() {
            descriptor["artifactType"] = artifact_type.into();
        }
        if let Some(annotations) = &self.annotations {
            descriptor["annotations"] = json!(annotations);
        }
        descriptor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_says_its_type_or_shows_it() {
        let media_type =
            |text: &str| ServedManifest::parse(text.as_bytes()).map(|m| m.media_type().to_owned());
        let config = r#""config":{"mediaType":"c"}"#;
        assert_eq!(media_type(&format!("{{{config}}}")).as_deref(), Some(OCI_IMAGE_MEDIA_TYPE));
        assert_eq!(media_type(r#"{"manifests":[]}"#).as_deref(), Some(OCI_IMAGE_INDEX_MEDIA_TYPE));
        assert_eq!(media_type(&format!(r#"{{"mediaType":"m",{config}}}"#)).as_deref(), Some("m"));
        // The registry must not serve a config as a manifest.
        assert_eq!(media_type(r#"{"architecture":"arm64","config":{"Env":[]}}"#), None);
        assert_eq!(media_type("\u{1f}\u{8b}"), None);
    }

    #[test]
    fn an_artifact_has_its_own_type_or_its_configs() {
        let artifact_type = |text: &str| {
            let text = format!(r#"{{"config":{{"mediaType":"of-config"}}{text}}}"#);
            ServedManifest::parse(text.as_bytes()).and_then(|m| m.artifact_type().map(str::to_owned))
        };
        assert_eq!(artifact_type("").as_deref(), Some("of-config"));
        assert_eq!(artifact_type(r#","artifactType":"own""#).as_deref(), Some("own"));
        assert_eq!(artifact_type(r#","artifactType":"""#).as_deref(), Some("of-config"));
    }
}
