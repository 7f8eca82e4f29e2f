//! The layers of an image on top of its root file system: one squashfs per extension, and one with the
//! index of all kernel modules. No single extension can contain the complete index.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    kernel_modules::KernelModules,
    listing::Listing,
    root_tree::{RootTree, pack},
    step::{RecipeError, file, remove},
    variants::ManifestMetadata,
};

/// A finished layer.
pub(super) struct FinishedLayer {
    /// The entry in `extensions.yaml`.
    pub(super) metadata: ManifestMetadata,
    /// The path of the squashfs.
    pub(super) path: PathBuf,
}

/// The name of the module index layer in Talos's list. The layer is not an extension.
pub(super) const MODULE_INDEX: &str = "modules.dep";

/// The content of an extension's layer.
pub(super) struct LayerContent<'a> {
    /// The extension's folder in `images`.
    pub(super) folder: &'a Path,
    /// Compiled programs by their path in the root file system.
    pub(super) programs: &'a [(&'a str, &'a Path)],
    /// Names of kernel modules.
    pub(super) kernel_modules: &'a [String],
}

impl LayerContent<'_> {
    /// Packs the layer to the file `to`.
    pub(super) fn make(&self, modules: &KernelModules, to: &Path) -> Result<(), RecipeError> {
        let staging = Staging::new(to)?;
        let root = &staging.0;
        copy_tree(&self.folder.join("layer"), root)?;
        let list = self.folder.join("directories");
        if list.exists() {
            for name in Listing::read(&list)?.names()? {
                let path = root.join(name);
                fs::create_dir_all(&path).map_err(file("create", &path))?;
            }
        }
        let tree = RootTree::new(Path::new(""), root)?;
        for (name, program) in self.programs {
            tree.install(name, program)?;
        }
        let names: Vec<_> = self.kernel_modules.iter().map(String::as_str).collect();
        tree.copy_modules(modules, &names)?;
        pack(root, to)
    }
}

/// Packs the modprobe index of the modules `names` to the file `to`.
pub(super) fn make_module_index(
    modules: &KernelModules,
    names: &[&str],
    to: &Path,
) -> Result<(), RecipeError> {
    let staging = Staging::new(to)?;
    let tree = RootTree::new(Path::new(""), &staging.0)?;
    tree.install_modules(modules, names)?;
    // The layers below contain the modules.
    remove(&staging.0.join("usr/lib/modules").join(&modules.version).join("kernel"))?;
    remove(&staging.0.join("lib"))?;
    pack(&staging.0, to)
}

/// Returns the metadata of the module index layer, in the format of Talos's imager.
pub(super) fn module_index_metadata(kernel: &str) -> ManifestMetadata {
    ManifestMetadata {
        name: MODULE_INDEX.to_owned(),
        version: kernel.to_owned(),
        author: "lab image build".to_owned(),
        description: "Index of the kernel modules of all layers".to_owned(),
        compatibility: serde_json::Value::Null,
    }
}

/// Returns `extensions.yaml` for an initramfs with these layers as `0.sqsh`, `1.sqsh` and so on.
pub(super) fn extensions_yaml(layers: &[&FinishedLayer]) -> Result<String, RecipeError> {
    let layers: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let mut metadata = serde_json::to_value(&layer.metadata).unwrap_or_default();
            if let Some(fields) = metadata.as_object_mut() {
                fields.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
            }
            serde_json::json!({ "image": format!("{index}.sqsh"), "metadata": metadata })
        })
        .collect();
    serde_yaml::to_string(&serde_json::json!({ "layers": layers }))
        .map_err(|error| RecipeError::Missing(format!("write extensions.yaml: {error}")))
}

/// A staging directory beside the output. It is removed at the end of the step, including on failure.
struct Staging(PathBuf);

impl Staging {
    fn new(output: &Path) -> Result<Self, RecipeError> {
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push("-tree");
        let path = output.with_file_name(name);
        remove(&path)?;
        fs::create_dir_all(&path).map_err(file("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // The next build removes leftovers.
        let _ = remove(&self.0);
    }
}

/// Copies the files below `from`, if it exists.
fn copy_tree(from: &Path, to: &Path) -> Result<(), RecipeError> {
    if !from.exists() {
        return Ok(());
    }
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.map_err(|error| RecipeError::File {
            action: "read",
            path: error.path().unwrap_or(from).to_owned(),
            source: error.into(),
        })?;
        let target = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).map_err(file("create", &target))?;
        } else {
            fs::copy(entry.path(), &target).map_err(file("copy", entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_image::Extension;

    #[test]
    fn the_list_is_what_the_inspection_reads() {
        let drbd = ManifestMetadata {
            name: "drbd".into(),
            version: "8.4.11".into(),
            author: String::new(),
            description: "Block devices".into(),
            compatibility: serde_json::json!({ "talos": { "version": ">= v1.11.0" } }),
        };
        let layers = [drbd, module_index_metadata("6.12")]
            .map(|metadata| FinishedLayer { metadata, path: PathBuf::new() });
        let text = extensions_yaml(&layers.iter().collect::<Vec<_>>()).expect("yaml");
        let read = Extension::parse(text.as_bytes()).expect("parse");
        let seen: Vec<_> = read.iter().map(|e| (e.name.as_str(), e.layer.as_str())).collect();
        assert_eq!(seen, [("drbd", "0.sqsh"), (MODULE_INDEX, "1.sqsh")]);
    }
}
