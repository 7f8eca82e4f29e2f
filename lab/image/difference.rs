//! Differences between two images.

use serde::Serialize;

use super::{
    contents::{Contents, ROOT_LAYER},
    initramfs::InitramfsLayer,
    inspection::Inspection,
};

/// The changes from the first image to the second image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Extensions only in the second image.
    pub added: Vec<String>,
    /// Extensions only in the first image.
    pub removed: Vec<String>,
    /// Extensions with different versions.
    pub changed: Vec<String>,
    /// Layers with the same version but different content: extensions in both images, and the root file
    /// system.
    pub other_content: Vec<String>,
    /// Services, by ID.
    pub services: Names,
    pub runtime_handlers: Names,
    /// Kernel modules from extensions.
    pub kernel_modules: Names,
    /// True if both images are identical.
    pub same_digest: bool,
    /// The kernel versions, if they differ.
    pub kernel: Option<(Option<String>, Option<String>)>,
    /// The OS versions, if they differ.
    pub node_version: Option<(Option<String>, Option<String>)>,
}

/// Names in only one of the two images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Names only in the second image.
    pub added: Vec<String>,
    /// Names only in the first image.
    pub removed: Vec<String>,
}

impl Names {
    fn of(first: &[String], second: &[String]) -> Self {
        let lacks = |one: &[String], other: &[String]| {
            one.iter().filter(|name| !other.contains(name)).cloned().collect()
        };
        Self { added: lacks(second, first), removed: lacks(first, second) }
    }
}

impl Difference {
    /// Compares `second` with `first`.
    pub fn between(first: &Inspection, second: &Inspection) -> Self {
        let (one, other) = (&first.contents, &second.contents);
        let names =
            |contents: &Contents| contents.extensions.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
        let services =
            |contents: &Contents| contents.services.iter().map(|s| s.id.clone()).collect::<Vec<_>>();
        let Names { added, removed } = Names::of(&names(one), &names(other));
        let mut difference = Self {
            added,
            removed,
            services: Names::of(&services(one), &services(other)),
            runtime_handlers: Names::of(&one.runtime_handlers, &other.runtime_handlers),
            kernel_modules: Names::of(&one.kernel_modules, &other.kernel_modules),
            same_digest: first.digest == second.digest,
            kernel: pair(&first.kernel_version, &second.kernel_version),
            node_version: pair(&one.node_version, &other.node_version),
            ..Self::default()
        };
        if !same_layer(first.layer(ROOT_LAYER), second.layer(ROOT_LAYER)) {
            difference.other_content.push(ROOT_LAYER.to_owned());
        }
        for mine in &one.extensions {
            let Some(theirs) = other.extensions.iter().find(|theirs| theirs.name == mine.name) else {
                continue;
            };
            if mine.version != theirs.version {
                difference.changed.push(format!("{} {} → {}", mine.name, mine.version, theirs.version));
            } else if !same_layer(first.layer(&mine.layer), second.layer(&theirs.layer)) {
                difference.other_content.push(mine.name.clone());
            }
        }
        difference
    }

    /// Reports whether the second image adds exactly the extensions `names` to the first image, removes
    /// nothing, and has the same content in all common parts.
    pub fn adds_exactly(&self, names: &[String]) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        let less = [&self.removed, &self.services.removed, &self.runtime_handlers.removed];
        sorted(&self.added) == sorted(names)
            && less.into_iter().chain([&self.kernel_modules.removed]).all(Vec::is_empty)
            && self.changed.is_empty()
            && self.other_content.is_empty()
            && self.kernel.is_none()
            && self.node_version.is_none()
    }
}

/// Reports whether a layer has the same files in both images, or is in neither. Talos' imager squashes each extension
/// for each image, and squashfs keeps the times of files, so the digests of two honest builds differ.
fn same_layer(first: Option<&InitramfsLayer>, second: Option<&InitramfsLayer>) -> bool {
    match (first, second) {
        (Some(first), Some(second)) => first.has_same_files(second),
        (first, second) => first.is_none() && second.is_none(),
    }
}

fn pair(first: &Option<String>, second: &Option<String>) -> Option<(Option<String>, Option<String>)> {
    (first != second).then(|| (first.clone(), second.clone()))
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures as fixture;

    use crate::{DiskCache, Inspection};

    /// An image with the extension `spin`, whose program has this content and this modification time.
    fn image(program: &[u8], time: u32) -> Inspection {
        let directory = tempfile::tempdir().expect("tempdir");
        let layer = fixture::squashfs_at(time, &[("usr/local/bin/shim", program)]);
        let initramfs = fixture::initramfs_of(&[("spin", &layer)]);
        std::fs::write(directory.path().join("vmlinuz"), fixture::kernel()).expect("write");
        std::fs::write(directory.path().join("initramfs.xz"), initramfs).expect("write");
        Inspection::of(directory.path(), &DiskCache::unused()).expect("inspect")
    }

    #[test]
    fn the_same_files_squashed_at_another_time_are_the_same_content() {
        let (first, later, other) = (image(b"shim", 1), image(b"shim", 2), image(b"other", 1));
        assert_ne!(first.layers[1].digest, later.layers[1].digest, "the layers differ");
        assert_eq!(first.difference(&later).other_content, [""; 0]);
        assert_eq!(first.difference(&other).other_content, ["spin"]);
    }
}
