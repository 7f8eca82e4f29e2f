//! Detects the layout of an image's boot files from the files in a directory.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use walkdir::WalkDir;

use super::{
    disk_cache::{DiskCache, Taken},
    disk_image::is_disk_image,
    part::Part,
    uki::UnifiedImage,
};
use crate::AssetError;

/// A layout of image files.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The name in messages.
    pub name: &'static str,
    /// The directory prefix in a registry image; optional on disk.
    prefix: &'static str,
    files: Files,
}

#[derive(Debug, PartialEq, Eq)]
enum Files {
    /// A kernel and an initramfs.
    Pair(&'static str, &'static str),
    /// A unified kernel image.
    Unified(&'static str),
    /// Release files with a variant and a version in their names.
    Release,
    /// A disk image with any name.
    Disk,
}

/// The prefix before the variant in the names of release files.
const RELEASE_KERNEL: &str = "talos-kernel-arm64-";
const RELEASE_INITRAMFS: &str = "talos-initramfs-arm64-";
/// The file extensions of release files. The empty extension is last.
const RELEASE_ENDINGS: [&str; 4] = [".xz", ".zst", ".gz", ""];

/// All known layouts. If two layouts match, the earlier layout takes precedence, because it is more
/// specific.
static LAYOUTS: [Layout; 8] = [
    Layout {
        name: "asset directory with boot/",
        prefix: "assets/talos/arm64",
        files: Files::Pair("boot/vmlinuz", "boot/initramfs.xz"),
    },
    Layout {
        name: "asset directory",
        prefix: "assets/talos/arm64",
        files: Files::Pair("vmlinuz", "initramfs.xz"),
    },
    Layout {
        name: "installer image with a unified kernel image",
        prefix: "usr/install/arm64",
        files: Files::Unified("vmlinuz.efi"),
    },
    Layout {
        name: "installer image",
        prefix: "usr/install/arm64",
        files: Files::Pair("vmlinuz", "initramfs.xz"),
    },
    Layout {
        name: "matchbox image",
        prefix: "var/lib/matchbox/assets",
        files: Files::Pair("vmlinuz", "initramfs.xz"),
    },
    Layout {
        name: "build output",
        prefix: "_out/assets",
        files: Files::Pair("kernel-arm64", "initramfs-metal-arm64.xz"),
    },
    Layout { name: "release files", prefix: "", files: Files::Release },
    Layout { name: "disk image", prefix: "_out/assets", files: Files::Disk },
];

/// The detected boot files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The layout name; for a disk image, also the selected boot entry.
    pub layout: String,
    /// The base directory for paths in checksum files.
    pub root: PathBuf,
    /// The kernel, wrapped or raw.
    pub kernel: Part,
    /// The initramfs, compressed or uncompressed.
    pub initramfs: Part,
    /// The kernel arguments in the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// The files that contain the boot files. Checksums must cover them.
    #[serde(skip)]
    pub(super) files: Vec<PathBuf>,
    /// True if a checksum file may list files that do not exist: a release has one list for all variants.
    #[serde(skip)]
    pub(super) shares_checksums: bool,
}

impl Found {
    /// Finds boot files at `path`: a directory in a known layout, or one file of a layout. `disks` caches
    /// files extracted from disk images.
    ///
    /// # Errors
    /// Returns an error in these cases: no layout matches (the error lists the existing files and the
    /// accepted layouts); a release directory contains several variants; a unified kernel image or a disk
    /// image is unusable.
    pub fn at(path: &Path, disks: &DiskCache) -> Result<Self, AssetError> {
        if path.is_file() {
            return Self::beside(path, disks);
        }
        for layout in &LAYOUTS {
            let below = path.join(layout.prefix);
            for root in [below.as_path(), path] {
                if let Some(found) = layout.at(root, disks)? {
                    return Ok(found);
                }
            }
        }
        Err(not_found(path))
    }

    /// Finds the image of a single file.
    fn beside(file: &Path, disks: &DiskCache) -> Result<Self, AssetError> {
        let (Some(root), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str()))
        else {
            return Err(not_found(file));
        };
        if name.ends_with(".efi") {
            return unified("unified kernel image", root, file);
        }
        let variant = [RELEASE_KERNEL, RELEASE_INITRAMFS].iter().find_map(|start| name.strip_prefix(start));
        match variant.map(|variant| Release::of(root, without_ending(variant))) {
            Some(Some(release)) => Ok(release.found(root)),
            _ if is_disk_image(file).map_err(AssetError::file("unpack", file))? => disk(root, file, disks),
            _ => Err(not_found(file)),
        }
    }

    /// Returns the name of a file as in checksum files.
    pub(super) fn name_of(&self, file: &Path) -> String {
        file.strip_prefix(&self.root).unwrap_or(file).to_string_lossy().into_owned()
    }
}

fn unified(layout: &str, root: &Path, file: &Path) -> Result<Found, AssetError> {
    let UnifiedImage { kernel, initramfs, arguments } = UnifiedImage::open(file)?;
    Ok(Found {
        layout: layout.to_owned(),
        root: root.to_owned(),
        kernel,
        initramfs,
        arguments,
        files: vec![file.to_owned()],
        shares_checksums: false,
    })
}

fn pair(layout: &str, root: &Path, kernel: PathBuf, initramfs: PathBuf) -> Found {
    Found {
        layout: layout.to_owned(),
        root: root.to_owned(),
        files: vec![kernel.clone(), initramfs.clone()],
        kernel: Part::whole(kernel),
        initramfs: Part::whole(initramfs),
        arguments: None,
        shares_checksums: false,
    }
}

fn disk(root: &Path, file: &Path, disks: &DiskCache) -> Result<Found, AssetError> {
    let Taken { image, choice } = disks.unified(file)?;
    let UnifiedImage { kernel, initramfs, arguments } = image;
    Ok(Found {
        layout: format!("disk image: UKI {choice}"),
        root: root.to_owned(),
        kernel,
        initramfs,
        arguments,
        files: vec![file.to_owned()],
        shares_checksums: true,
    })
}

/// Returns the only disk image in `root`. If there are several, ignores the images named after other
/// architectures.
fn only_disk(root: &Path) -> Result<Option<PathBuf>, AssetError> {
    let names = names(root).unwrap_or_default();
    // A file that cannot be unpacked is not a known format.
    let is_disk = |name: &String| {
        let path = root.join(name);
        path.is_file() && is_disk_image(&path).unwrap_or(false)
    };
    let mut disks: Vec<_> = names.into_iter().take(LOOKED_AT).filter(is_disk).collect();
    if disks.len() > 1 {
        disks.retain(|name| !OTHERS.iter().any(|other| name.contains(other)));
    }
    match disks.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(root.join(one))),
        several => Err(AssetError::SeveralVariants {
            directory: root.to_owned(),
            variants: several.join(", "),
            example: several[0].clone(),
        }),
    }
}

impl Layout {
    fn at(&self, root: &Path, disks: &DiskCache) -> Result<Option<Found>, AssetError> {
        match self.files {
            Files::Pair(kernel, initramfs) => {
                let (kernel, initramfs) = (root.join(kernel), root.join(initramfs));
                let both = kernel.is_file() && initramfs.is_file();
                Ok(both.then(|| pair(self.name, root, kernel, initramfs)))
            }
            Files::Unified(file) => {
                let file = root.join(file);
                if file.is_file() { unified(self.name, root, &file).map(Some) } else { Ok(None) }
            }
            Files::Release => Release::only(root).map(|release| release.map(|release| release.found(root))),
            Files::Disk => only_disk(root)?.map(|file| disk(root, &file, disks)).transpose(),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, prefix, files } = self;
        match files {
            Files::Pair(kernel, initramfs) => write!(f, "{prefix}/{{{kernel},{initramfs}}} ({name})"),
            Files::Unified(file) => write!(f, "{prefix}/{file} ({name})"),
            Files::Release => {
                write!(f, "{RELEASE_KERNEL}VARIANT.xz beside {RELEASE_INITRAMFS}VARIANT.xz ({name})")
            }
            Files::Disk => {
                write!(f, "{prefix}/metal-arm64.raw.xz, or a disk image with another name ({name})")
            }
        }
    }
}

/// The two files of one release variant.
struct Release {
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Release {
    fn of(root: &Path, variant: &str) -> Option<Self> {
        let file = |start: &str| {
            let mut names =
                RELEASE_ENDINGS.iter().map(|ending| root.join(format!("{start}{variant}{ending}")));
            names.find(|path| path.is_file())
        };
        Some(Self { kernel: file(RELEASE_KERNEL)?, initramfs: file(RELEASE_INITRAMFS)? })
    }

    /// Returns the release files in `root` if they belong to exactly one variant.
    fn only(root: &Path) -> Result<Option<Self>, AssetError> {
        let names = names(root).unwrap_or_default();
        let variants: Vec<_> = names
            .iter()
            .filter_map(|name| name.strip_prefix(RELEASE_INITRAMFS))
            .map(without_ending)
            .filter(|variant| Self::of(root, variant).is_some())
            .collect();
        match variants.as_slice() {
            [] => Ok(None),
            [variant] => Ok(Self::of(root, variant)),
            several => Err(AssetError::SeveralVariants {
                directory: root.to_owned(),
                variants: several.join(", "),
                example: format!("{RELEASE_INITRAMFS}{}.xz", several[0]),
            }),
        }
    }

    fn found(self, root: &Path) -> Found {
        let found = pair("release files", root, self.kernel, self.initramfs);
        Found { shares_checksums: true, ..found }
    }
}

fn without_ending(name: &str) -> &str {
    RELEASE_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Reports whether a file in a registry image belongs to a layout, for any architecture.
pub fn belongs(path: &str) -> bool {
    let below = LAYOUTS.iter().map(|layout| layout.prefix.strip_suffix("arm64").unwrap_or(layout.prefix));
    let mut below = below.filter(|prefix| !prefix.is_empty());
    let top = !path.contains('/') || path.starts_with("boot/");
    top || below.any(|prefix| path.starts_with(prefix.trim_end_matches('/')))
}

/// Path components of architectures that the lab does not support.
const OTHERS: [&str; 2] = ["amd64", "x86_64"];
/// Maximum number of file names in an error message.
const TOLD: usize = 8;
/// Maximum number of inspected files per directory.
const LOOKED_AT: usize = 256;

fn not_found(path: &Path) -> AssetError {
    let mut found: Vec<_> = if path.is_file() {
        vec![path.file_name().unwrap_or_default().to_string_lossy().into_owned()]
    } else {
        let files = WalkDir::new(path).max_depth(5).sort_by_file_name().into_iter().flatten();
        let files = files.filter(|entry| entry.file_type().is_file());
        let relative = |path_of: &Path| path_of.strip_prefix(path).unwrap_or(path_of).display().to_string();
        files.map(|entry| relative(entry.path())).take(TOLD + 1).collect()
    };
    let other = found.iter().find_map(|name| OTHERS.iter().find(|other| name.contains(**other)));
    let hint = other.map_or_else(String::new, |other| {
        format!(" (this image is for {other}, but the lab boots arm64: use the arm64 build)")
    });
    let more = if found.len() > TOLD { ", …" } else { "" };
    found.truncate(TOLD);
    let text = match (std::fs::metadata(path), found.is_empty()) {
        (Err(error), _) => format!("nothing ({error})"),
        (Ok(_), true) => "an empty directory".to_owned(),
        (Ok(_), false) => format!("{}{more}{hint}", found.join(", ")),
    };
    let expected = LAYOUTS.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    AssetError::NotFound { path: path.to_owned(), found: text, expected }
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<_> = std::fs::read_dir(directory)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
