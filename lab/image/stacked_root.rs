//! The root file system of a node: the layers of its image, stacked as Talos stacks them at boot. A file in a later
//! layer replaces the file with the same path in an earlier one.

use std::collections::BTreeMap;

use super::{
    contents::{ContentsError, ROOT_LAYER},
    inspection::Inspection,
    layer_file::LayerFile,
    squashfs::{Squashfs, SquashfsError},
    squashfs_tree::TreeEntry,
};

/// Maximum number of symbolic links in one path (`MAXSYMLINKS`, Linux include/linux/namei.h).
const LINKS: usize = 40;

/// The stacked layers of an image.
pub struct StackedRoot {
    layers: Vec<(String, Squashfs<LayerFile>)>,
    entries: BTreeMap<String, (usize, TreeEntry)>,
}

/// A file in the stacked layers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundFile {
    /// The path without a leading slash, after symbolic links.
    pub path: String,
    /// The layer that has it.
    pub layer: String,
    /// The size in bytes.
    pub bytes: u64,
    /// True if a user may start it.
    pub is_executable: bool,
}

impl StackedRoot {
    /// Reads the directories of all layers.
    ///
    /// # Errors
    /// Returns an error if a layer is damaged.
    pub fn of(image: &Inspection) -> Result<Self, ContentsError> {
        let order = |name: &str| image.contents.extensions.iter().position(|e| e.layer == name);
        let mut layers: Vec<_> = image.layers.iter().collect();
        // Layers that are no extension, such as the list of module dependencies, lie on top.
        layers.sort_by_key(|layer| (layer.name != ROOT_LAYER, order(&layer.name).unwrap_or(usize::MAX)));
        let mut root = Self { layers: Vec::new(), entries: BTreeMap::new() };
        for layer in layers {
            let damaged = |source| ContentsError::Layer { layer: layer.name.clone(), source };
            let mut squashfs = layer.open().map_err(damaged)?;
            for (path, entry) in squashfs.tree("").map_err(damaged)? {
                // A directory of a later layer does not hide what an earlier one has in it.
                let keeps = matches!(entry, TreeEntry::Directory { .. }) && root.entries.contains_key(&path);
                if !keeps {
                    root.entries.insert(path, (root.layers.len(), entry));
                }
            }
            root.layers.push((layer.name.clone(), squashfs));
        }
        Ok(root)
    }

    /// Returns the regular file at a path, after symbolic links.
    pub fn file(&self, path: &str) -> Option<FoundFile> {
        let path = self.resolved(path)?;
        self.found(&path)
    }

    /// Returns the regular file at a path in the root `directory` of a container: symbolic links stay in it.
    pub fn file_in(&self, directory: &str, path: &str) -> Option<FoundFile> {
        let directory = self.resolved(directory)?;
        let path = resolve_path(path, |path| self.at(&format!("{directory}/{path}")))?;
        self.found(&format!("{directory}/{path}"))
    }

    /// Returns whether a path exists, after symbolic links.
    pub fn has(&self, path: &str) -> bool {
        self.resolved(path).is_some()
    }

    /// Returns the regular files below a directory, sorted by path. Symbolic links lead to the directory, and are not
    /// followed below it.
    pub fn files_under(&self, directory: &str) -> Vec<FoundFile> {
        let Some(directory) = self.resolved(directory) else { return Vec::new() };
        let start = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let below = self.entries.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start));
        below.filter_map(|(path, _)| self.found(path)).collect()
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// Returns an error if the file is larger or damaged.
    pub fn read(&mut self, file: &FoundFile, limit: u64) -> Result<Vec<u8>, ContentsError> {
        self.with(file, |squashfs, inner| squashfs.read(inner, limit))
    }

    /// Reads the first block of a file.
    ///
    /// # Errors
    /// Returns an error if the file is damaged.
    pub fn head(&mut self, file: &FoundFile) -> Result<Vec<u8>, ContentsError> {
        self.with(file, |squashfs, inner| squashfs.head(inner))
    }

    fn with(
        &mut self,
        file: &FoundFile,
        work: impl FnOnce(&mut Squashfs<LayerFile>, &super::SquashfsFile) -> Result<Vec<u8>, SquashfsError>,
    ) -> Result<Vec<u8>, ContentsError> {
        let Some((layer, TreeEntry::File(inner))) = self.entries.get(&file.path) else {
            return Ok(Vec::new());
        };
        let (name, squashfs) = &mut self.layers[*layer];
        work(squashfs, inner).map_err(|source| ContentsError::Layer { layer: name.clone(), source })
    }

    fn found(&self, path: &str) -> Option<FoundFile> {
        let (layer, TreeEntry::File(file)) = self.entries.get(path)? else { return None };
        Some(FoundFile {
            path: path.to_owned(),
            layer: self.layers[*layer].0.clone(),
            bytes: file.size,
            is_executable: file.mode & 0o111 != 0,
        })
    }

    /// Returns the path after symbolic links, if it exists.
    fn resolved(&self, path: &str) -> Option<String> {
        resolve_path(path, |path| self.at(path))
    }

    fn at(&self, path: &str) -> PathEntry {
        match self.entries.get(path) {
            None => PathEntry::Missing,
            Some((_, TreeEntry::Link { target })) => PathEntry::Link(target.clone()),
            Some(_) => PathEntry::Other,
        }
    }
}

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathEntry {
    Missing,
    /// A symbolic link to this target.
    Link(String),
    Other,
}

/// Follows the symbolic links of a path in a root whose entries `at` knows. The path cannot leave the root, as in a
/// container. Returns `None` if the path does not exist, or if it has more than 40 links.
pub fn resolve_path(path: &str, at: impl Fn(&str) -> PathEntry) -> Option<String> {
    let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
    let mut links = 0;
    let mut done: Vec<String> = Vec::new();
    while let Some(part) = left.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => done.push(part),
        }
        match at(&done.join("/")) {
            PathEntry::Missing => return None,
            PathEntry::Other => {}
            PathEntry::Link(target) => {
                links += 1;
                if links > LINKS {
                    return None;
                }
                done.pop();
                if target.starts_with('/') {
                    done.clear();
                }
                left.extend(target.rsplit('/').map(str::to_owned));
            }
        }
    }
    Some(done.join("/"))
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::{initramfs_with, kernel, squashfs};

    use super::*;
    use crate::DiskCache;

    fn image(root: &[u8], extensions: &[(&str, &[u8])]) -> Inspection {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join("vmlinuz"), kernel()).expect("write");
        let initramfs = initramfs_with(root, extensions);
        std::fs::write(directory.path().join("initramfs.xz"), initramfs).expect("write");
        Inspection::of(directory.path(), &DiskCache::unused()).expect("inspect")
    }

    #[test]
    fn a_later_layer_replaces_files_and_keeps_the_rest_of_a_directory() {
        let first = squashfs(&[("usr/bin/a", b"first"), ("usr/bin/b", b"kept")]);
        let second = squashfs(&[("usr/bin/a", b"second")]);
        let image = image(&first, &[("name: x, version: v1", &second)]);
        let mut root = StackedRoot::of(&image).expect("root");
        let file = root.file("/usr/bin/../bin/a").expect("file");
        assert_eq!((file.layer.as_str(), file.is_executable), ("0.sqsh", true));
        assert_eq!(root.read(&file, 100).expect("read"), b"second");
        let names: Vec<_> = root.files_under("usr").into_iter().map(|file| file.path).collect();
        assert_eq!(names, ["usr/bin/a", "usr/bin/b"]);
        assert!(root.has("usr/bin") && !root.has("usr/sbin"));
    }

    #[test]
    fn links_stay_in_the_root_and_a_circle_ends() {
        let at = |path: &str| match path {
            "lib" => PathEntry::Link("usr/lib".into()),
            "up" => PathEntry::Link("../../../lib/x".into()),
            "absolute" => PathEntry::Link("/lib".into()),
            "a" => PathEntry::Link("b".into()),
            "b" => PathEntry::Link("a".into()),
            "usr" | "usr/lib" | "usr/lib/x" => PathEntry::Other,
            _ => PathEntry::Missing,
        };
        assert_eq!(resolve_path("/lib/x", at).as_deref(), Some("usr/lib/x"));
        assert_eq!(resolve_path("up", at).as_deref(), Some("usr/lib/x"));
        assert_eq!(resolve_path("absolute/x", at).as_deref(), Some("usr/lib/x"));
        assert_eq!(resolve_path("a", at), None);
        assert_eq!(resolve_path("lib/y", at), None);
    }
}
