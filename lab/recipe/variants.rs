//! `images/variants.yaml`: the extensions, and the image variants that contain them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::step::{RecipeError, file};

/// The content of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variants {
    /// Extensions by name. The name is also the folder in `images`.
    pub(super) extensions: BTreeMap<String, Ingredients>,
    /// Images by name, each a list of extensions, lowest layer first.
    pub(super) variants: BTreeMap<String, Vec<String>>,
}

/// Additional content of an extension, besides the files in its folder.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Ingredients {
    /// Go programs by their path in the root file system.
    #[serde(default)]
    pub(super) programs: BTreeMap<String, Program>,
    /// Kernel modules by name. The build adds their dependencies.
    #[serde(default)]
    pub(super) kernel_modules: Vec<String>,
}

/// A program of a Go module.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    /// The module's folder in `images`.
    pub(super) module: String,
    /// The package: `./…` within the module, or a package of a required module.
    pub(super) package: String,
    /// Linker variables, `PACKAGE.NAME=VALUE`.
    #[serde(default)]
    pub(super) variables: Vec<String>,
}

/// An extension's `manifest.yaml`, in the format of Talos (pkg/machinery/extensions, `Manifest`).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ExtensionManifest {
    /// The metadata that the running node reports for the extension.
    pub(super) metadata: ManifestMetadata,
}

/// The part of a manifest that `extensions.yaml` repeats.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ManifestMetadata {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(default)]
    pub(super) author: String,
    #[serde(default)]
    pub(super) description: String,
    /// The compatible Talos releases.
    #[serde(default)]
    pub(super) compatibility: serde_json::Value,
}

impl Variants {
    /// Reads the file and checks that every extension of a variant is defined.
    pub(super) fn read(path: &Path) -> Result<Self, RecipeError> {
        let read: Self = yaml(path)?;
        for (variant, extensions) in &read.variants {
            for name in extensions {
                if !read.extensions.contains_key(name) {
                    return Err(RecipeError::Missing(format!(
                        "{}: variant {variant} names the extension {name}, which is not described there",
                        path.display()
                    )));
                }
            }
        }
        Ok(read)
    }

    /// Keeps the variants `names` and their extensions. Keeps all if `names` is empty.
    pub(super) fn only(mut self, names: &[String]) -> Result<Self, RecipeError> {
        if names.is_empty() {
            return Ok(self);
        }
        if let Some(unknown) = names.iter().find(|name| !self.variants.contains_key(*name)) {
            let known: Vec<_> = self.variants.keys().map(String::as_str).collect();
            return Err(RecipeError::Missing(format!(
                "no variant is called {unknown:?} in variants.yaml (there: {})",
                known.join(", ")
            )));
        }
        self.variants.retain(|name, _| names.contains(name));
        let used: BTreeSet<_> = self.variants.values().flatten().cloned().collect();
        self.extensions.retain(|name, _| used.contains(name));
        Ok(self)
    }
}

impl ExtensionManifest {
    /// Reads the manifest of the extension `name`.
    pub(super) fn read(path: &Path, name: &str) -> Result<Self, RecipeError> {
        let manifest: Self = yaml(path)?;
        if manifest.metadata.name == name {
            return Ok(manifest);
        }
        Err(RecipeError::Missing(format!(
            "{} describes {} and lies in the folder of {name}",
            path.display(),
            manifest.metadata.name
        )))
    }
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, RecipeError> {
    let text = fs::read_to_string(path).map_err(file("read", path))?;
    serde_yaml::from_str(&text).map_err(|error| RecipeError::Missing(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Variants, RecipeError> {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("variants.yaml");
        fs::write(&path, text).expect("write");
        Variants::read(&path)
    }

    #[test]
    fn the_projects_own_file_gives_a_gateway_that_differs_by_tailscale() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images");
        let read = Variants::read(&sources.join("variants.yaml")).expect("variants");
        let mut compute = read.variants["compute"].clone();
        compute.push("tailscale".to_owned());
        assert_eq!(read.variants["gateway"], compute);
        for name in read.extensions.keys() {
            ExtensionManifest::read(&sources.join(name).join("manifest.yaml"), name).expect("manifest");
        }
    }

    #[test]
    fn one_variant_needs_only_its_own_extensions() {
        let text = "extensions: { a: {}, b: {} }\nvariants: { one: [a], two: [a, b] }\n";
        let one = parse(text).and_then(|read| read.only(&["one".to_owned()])).expect("one");
        assert_eq!(one.extensions.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(one.variants.keys().collect::<Vec<_>>(), ["one"]);
        assert_eq!(parse(text).and_then(|read| read.only(&[])).expect("all").variants.len(), 2);
        let error = parse(text).and_then(|read| read.only(&["three".to_owned()])).expect_err("three");
        assert!(error.to_string().contains("(there: one, two)"), "{error}");
    }

    #[test]
    fn a_variant_of_an_unknown_extension_is_refused() {
        let error = parse("extensions: {}\nvariants: { a: [zfs] }\n").expect_err("zfs").to_string();
        assert!(error.contains("variant a names the extension zfs"), "{error}");
        assert!(parse("extensions: { a: { modules: [x] } }\nvariants: {}\n").is_err());
    }
}
