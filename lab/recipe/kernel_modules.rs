//! Kernel modules: selection by name, dependency resolution, and decompression on the host. Guests then
//! do not decompress modules under emulation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::step::{RecipeError, file};

/// The modules of one kernel in a package tree.
pub(super) struct KernelModules {
    /// `usr/lib/modules/VERSION` of the tree.
    root: PathBuf,
    /// Kernel version, e.g. `6.12.57+deb13-cloud-arm64`.
    pub(super) version: String,
    /// Maps a module name (with underscores) to its path relative to `root`.
    by_name: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl KernelModules {
    /// Finds the only kernel of a package tree.
    pub(super) fn open(tree: &Path) -> Result<Self, RecipeError> {
        let parent = tree.join("usr/lib/modules");
        let mut versions = fs::read_dir(&parent).map_err(file("read", &parent))?.flatten();
        let (Some(only), None) = (versions.next(), versions.next()) else {
            return Err(RecipeError::Missing(format!("{} should hold exactly one kernel", parent.display())));
        };
        let root = only.path();
        let by_name = walkdir::WalkDir::new(root.join("kernel"))
            .into_iter()
            .flatten()
            .filter(|entry| entry.file_type().is_file())
            .filter_map(|entry| {
                let relative = entry.path().strip_prefix(&root).ok()?.to_owned();
                Some((module_name(&relative)?, relative))
            })
            .collect();
        let list = root.join("modules.builtin");
        let built_in = fs::read_to_string(&list)
            .map_err(file("read", &list))?
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self { version: only.file_name().to_string_lossy().into_owned(), root, by_name, built_in })
    }

    /// Returns the decompressed modules and all their dependencies, without duplicates, dependencies
    /// first. Skips modules that are built into the kernel.
    pub(super) fn with_dependencies(&self, names: &[&str]) -> Result<Vec<Module>, RecipeError> {
        let mut chosen = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(&name.replace('-', "_"), &mut seen, &mut chosen)?;
        }
        Ok(chosen)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        chosen: &mut Vec<Module>,
    ) -> Result<(), RecipeError> {
        if self.built_in.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let relative = self.by_name.get(name).ok_or_else(|| {
            RecipeError::Missing(format!(
                "kernel {} has no module {name}; correct images/rootfs/modules",
                self.version
            ))
        })?;
        let path = self.root.join(relative);
        let content = decompressed(&path)?;
        for dependency in dependencies(&content) {
            self.visit(&dependency, seen, chosen)?;
        }
        chosen.push(Module { path: relative.with_extension("").with_extension("ko"), content });
        Ok(())
    }

    /// Returns the additional lists that `depmod` reads.
    pub(super) fn depmod_inputs(&self) -> [PathBuf; 3] {
        ["modules.builtin", "modules.builtin.modinfo", "modules.order"].map(|name| self.root.join(name))
    }
}

/// A kernel module, ready to load.
pub(super) struct Module {
    /// Path relative to the version's directory, ending in `.ko`.
    pub(super) path: PathBuf,
    /// The ELF object.
    pub(super) content: Vec<u8>,
}

/// Returns the module name. `kernel/net/core/failover.ko.xz` is module `failover`; the kernel replaces
/// `-` with `_`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let stem = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(stem.replace('-', "_"))
}

fn decompressed(path: &Path) -> Result<Vec<u8>, RecipeError> {
    let content = fs::read(path).map_err(file("read", path))?;
    if !content.starts_with(b"\xfd7zXZ\0") {
        return Ok(content);
    }
    let mut out = Vec::new();
    io::copy(&mut liblzma::read::XzDecoder::new(&content[..]), &mut out).map_err(file("unpack", path))?;
    Ok(out)
}

/// Returns the names in the `depends=` entry of a module's `.modinfo` section (NUL-separated texts).
fn dependencies(module: &[u8]) -> Vec<String> {
    const ENTRY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(ENTRY.len()).position(|window| window == ENTRY) else {
        return Vec::new();
    };
    let value = &module[at + ENTRY.len()..];
    let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_from_modinfo() {
        assert_eq!(
            dependencies(b"x\0license=GPL\0depends=net_failover,virtio-ring\0name=y\0"),
            ["net_failover", "virtio_ring"]
        );
        assert!(dependencies(b"\0depends=\0name=y\0").is_empty());
        assert!(dependencies(b"nothing").is_empty());
    }

    #[test]
    fn module_names_follow_the_kernel() {
        assert_eq!(module_name(Path::new("kernel/x/virtio-rng.ko.xz")).as_deref(), Some("virtio_rng"));
        assert_eq!(module_name(Path::new("kernel/x/loop.ko")).as_deref(), Some("loop"));
        assert_eq!(module_name(Path::new("modules.dep")), None);
    }
}
