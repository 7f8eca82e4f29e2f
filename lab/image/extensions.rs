//! `extensions.yaml` in an initramfs: the list of system extensions in an image.
//!
//! Format: Talos pkg/machinery/extensions (`layers`, each with the `image` file and the `metadata` of the
//! extension manifest). The parser ignores unknown keys of later versions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plain::plain;

/// A system extension in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// The name, e.g. `tailscale`.
    pub name: String,
    pub version: String,
    /// The author; empty if the manifest has none.
    pub author: String,
    /// The description; empty if the manifest has none.
    pub description: String,
    /// The layer file in the initramfs, e.g. `0.sqsh`.
    pub layer: String,
    /// The range of Talos versions that the extension is for, as written, e.g. `>= v1.8.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<String>,
}

/// The reason `extensions.yaml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExtensionsError {
    /// The text is not YAML in the expected form.
    #[error("extensions.yaml: {0}")]
    Malformed(String),
    /// A layer has no name, or its name is not unique.
    #[error("extensions.yaml, layer {number}: {problem}")]
    Layer {
        /// The layer number, starting at 1.
        number: usize,
        problem: String,
    },
}

#[derive(Deserialize)]
struct ExtensionsYaml {
    #[serde(default)]
    layers: Option<Vec<RawLayer>>,
}

#[derive(Deserialize)]
struct RawLayer {
    image: String,
    metadata: LayerMetadata,
}

#[derive(Deserialize)]
struct LayerMetadata {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    author: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    compatibility: Option<Compatibility>,
}

#[derive(Deserialize)]
struct Compatibility {
    #[serde(default)]
    talos: Option<TalosRange>,
}

#[derive(Deserialize)]
struct TalosRange {
    #[serde(default)]
    version: String,
}

impl Extension {
    /// Parses `extensions.yaml`.
    ///
    /// # Errors
    /// See [`ExtensionsError`].
    pub fn parse(text: &[u8]) -> Result<Vec<Self>, ExtensionsError> {
        let manifest: ExtensionsYaml = serde_yaml::from_slice(text)
            .map_err(|error| ExtensionsError::Malformed(plain(&error.to_string()).into()))?;
        let mut names = BTreeSet::new();
        let layers = manifest.layers.unwrap_or_default().into_iter().enumerate();
        layers
            .map(|(index, RawLayer { image, metadata })| {
                let fail =
                    |problem: &str| ExtensionsError::Layer { number: index + 1, problem: problem.to_owned() };
                if metadata.name.is_empty() {
                    return Err(fail("its extension has no name"));
                }
                if !names.insert(metadata.name.clone()) {
                    return Err(fail(&format!("{} is there already", plain(&metadata.name))));
                }
                Ok(Self {
                    name: metadata.name,
                    version: metadata.version,
                    author: metadata.author,
                    description: metadata.description.trim().to_owned(),
                    layer: image,
                    compatibility: metadata
                        .compatibility
                        .and_then(|compatibility| compatibility.talos)
                        .map(|talos| talos.version)
                        .filter(|range| !range.trim().is_empty()),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
layers:
    - image: 0.sqsh
      metadata:
        name: drbd
        version: 9.2.14-v1.11.5
        author: Sidero Labs
        description: |
            [contrib] DRBD module
        compatibility:
            talos:
                version: '>= v1.11.5'
    - image: 1.sqsh
      metadata: {name: tailscale, version: 1.88.3}
";

    #[test]
    fn layers_are_read_with_their_manifests() {
        let extensions = Extension::parse(TEXT.as_bytes()).expect("parse");
        let seen: Vec<_> =
            extensions.iter().map(|e| (e.name.as_str(), e.version.as_str(), e.layer.as_str())).collect();
        assert_eq!(seen, [("drbd", "9.2.14-v1.11.5", "0.sqsh"), ("tailscale", "1.88.3", "1.sqsh")]);
        assert_eq!(extensions[0].description, "[contrib] DRBD module");
    }

    #[test]
    fn an_image_without_extensions_has_an_empty_list() {
        assert_eq!(Extension::parse(b"layers: []\n").expect("empty"), []);
        assert_eq!(Extension::parse(b"layers:\n").expect("null"), []);
    }

    #[test]
    fn two_of_one_name_are_refused_with_their_place() {
        let twice = TEXT.replace("tailscale", "drbd");
        let error = Extension::parse(twice.as_bytes()).expect_err("twice").to_string();
        assert_eq!(error, "extensions.yaml, layer 2: drbd is there already");
    }

    proptest! {
        #[test]
        fn what_is_listed_is_read_in_its_order(names in proptest::collection::btree_set("[a-z][a-z.-]{0,20}", 0..9)) {
            let layer = |(number, name): (usize, &String)| {
                format!("- {{image: {number}.sqsh, metadata: {{name: '{name}', version: v{number}}}}}\n")
            };
            let text = format!("layers:\n{}", names.iter().enumerate().map(layer).collect::<String>());
            let read = Extension::parse(text.as_bytes()).expect("parse");
            let read: Vec<_> = read.into_iter().map(|extension| extension.name).collect();
            prop_assert_eq!(read, names.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn damage_ends_without_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), text in any::<Vec<u8>>()) {
            let mut bytes = TEXT.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Extension::parse(&bytes);
            let _ = Extension::parse(&text);
        }
    }
}
