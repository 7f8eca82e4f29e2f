//! `extensions.yaml` of an initramfs: which system extensions an image carries.
//!
//! Form: Talos pkg/machinery/extensions (`layers`, each with the `image` that holds it and the
//! `metadata` of the extension's manifest). Keys that a later version adds are no error.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plain::plain;

/// A system extension of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name, e.g. `tailscale`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who made it; empty when the manifest does not say.
    pub author: String,
    /// What it is; empty when the manifest does not say.
    pub description: String,
    /// The file of the initramfs that holds it, e.g. `0.sqsh`.
    pub layer: String,
}

/// Why `extensions.yaml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExtensionsError {
    /// Not YAML of the expected form.
    #[error("extensions.yaml: {0}")]
    Malformed(String),
    /// A layer without a name, or two of one name.
    #[error("extensions.yaml, layer {number}: {problem}")]
    Layer {
        /// Which, from 1.
        number: usize,
        /// What is wrong with it.
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
}

impl Extension {
    /// Reads `extensions.yaml`.
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
