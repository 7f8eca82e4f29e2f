//! The layouts in which people keep the boot files of an image, told apart by what is there.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use walkdir::WalkDir;

use super::{node_image::AssetError, part::Part, uki::UnifiedImage};

/// A way to lay out an image's files.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// What it is called in messages.
    pub name: &'static str,
    /// The directory below which an image in a registry has it; on disk it may be left out.
    prefix: &'static str,
    files: Files,
}

#[derive(Debug, PartialEq, Eq)]
enum Files {
    /// A kernel and an initramfs.
    Pair(&'static str, &'static str),
    /// A unified kernel image.
    Unified(&'static str),
    /// Files of a release, named after a variant and a version.
    Release,
}

/// What stands before the variant in the names of release files.
const RELEASE_KERNEL: &str = "talos-kernel-arm64-";
const RELEASE_INITRAMFS: &str = "talos-initramfs-arm64-";
/// Extensions of release files, none last.
const RELEASE_ENDINGS: [&str; 4] = [".xz", ".zst", ".gz", ""];

/// All known layouts. Where two fit, the earlier one is taken: it says more.
static LAYOUTS: [Layout; 7] = [
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
];

/// Boot files that were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The name of their layout.
    pub layout: &'static str,
    /// The directory to which checksum files refer.
    pub root: PathBuf,
    /// The kernel, in whatever wrapping.
    pub kernel: Part,
    /// The initramfs, in whatever compression.
    pub initramfs: Part,
    /// The kernel arguments that the image itself would boot with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// Whether a checksum file may cover other files than these two without them being there:
    /// releases have one list for all their variants.
    #[serde(skip)]
    pub(super) shares_checksums: bool,
}

impl Found {
    /// Finds boot files at `path`: a directory in one of the layouts, or one file of it.
    ///
    /// # Errors
    /// When nothing fits, naming what is there and what would; when a release directory holds more
    /// than one variant; when a unified kernel image is damaged.
    pub fn at(path: &Path) -> Result<Self, AssetError> {
        if path.is_file() {
            return Self::beside(path);
        }
        for layout in &LAYOUTS {
            let below = path.join(layout.prefix);
            for root in [below.as_path(), path] {
                if let Some(found) = layout.at(root)? {
                    return Ok(found);
                }
            }
        }
        Err(not_found(path))
    }

    /// The image that a single file belongs to.
    fn beside(file: &Path) -> Result<Self, AssetError> {
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
            _ => Err(not_found(file)),
        }
    }
}

fn unified(layout: &'static str, root: &Path, file: &Path) -> Result<Found, AssetError> {
    let UnifiedImage { kernel, initramfs, arguments } = UnifiedImage::open(file)?;
    Ok(Found { layout, root: root.to_owned(), kernel, initramfs, arguments, shares_checksums: false })
}

impl Layout {
    fn at(&self, root: &Path) -> Result<Option<Found>, AssetError> {
        match self.files {
            Files::Pair(kernel, initramfs) => {
                let (kernel, initramfs) = (root.join(kernel), root.join(initramfs));
                let both = kernel.is_file() && initramfs.is_file();
                Ok(both.then(|| Found {
                    layout: self.name,
                    root: root.to_owned(),
                    kernel: Part::whole(kernel),
                    initramfs: Part::whole(initramfs),
                    arguments: None,
                    shares_checksums: false,
                }))
            }
            Files::Unified(file) => {
                let file = root.join(file);
                if file.is_file() { unified(self.name, root, &file).map(Some) } else { Ok(None) }
            }
            Files::Release => Release::only(root).map(|release| release.map(|release| release.found(root))),
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
        }
    }
}

/// The two files of one variant of a release.
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

    /// The release files in `root`, when there are some of exactly one variant.
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
        Found {
            layout: "release files",
            root: root.to_owned(),
            kernel: Part::whole(self.kernel),
            initramfs: Part::whole(self.initramfs),
            arguments: None,
            shares_checksums: true,
        }
    }
}

fn without_ending(name: &str) -> &str {
    RELEASE_ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Whether a file of an image in a registry belongs to a layout, for any architecture.
pub fn belongs(path: &str) -> bool {
    let below = LAYOUTS.iter().map(|layout| layout.prefix.strip_suffix("arm64").unwrap_or(layout.prefix));
    let mut below = below.filter(|prefix| !prefix.is_empty());
    let top = !path.contains('/') || path.starts_with("boot/");
    top || below.any(|prefix| path.starts_with(prefix.trim_end_matches('/')))
}

/// Names of an architecture in paths, which the lab does not boot.
const OTHERS: [&str; 2] = ["amd64", "x86_64"];
/// How many names of what is there are told.
const TOLD: usize = 8;

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
        format!(" (this is an image of {other}; the lab boots arm64: take that build of it)")
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
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("tempdir");
        for file in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            let arm64 = object::pe::IMAGE_FILE_MACHINE_ARM64;
            let unified = crate::assets::fixture::pe(arm64, &[(".linux", b"k"), (".initrd", b"i")]);
            std::fs::write(path, unified).expect("write");
        }
        directory
    }

    fn layout(files: &[&str], below: &str) -> (String, String) {
        let directory = directory(files);
        let found = Found::at(&directory.path().join(below)).expect("found");
        (found.layout.to_owned(), found.kernel.within(directory.path()))
    }

    #[test]
    fn every_layout_is_known_from_its_root_and_from_within() {
        let pairs = [
            ("assets/talos/arm64", "boot/vmlinuz", "boot/initramfs.xz", "asset directory with boot/"),
            ("assets/talos/arm64", "vmlinuz", "initramfs.xz", "asset directory"),
            ("usr/install/arm64", "vmlinuz", "initramfs.xz", "installer image"),
            ("var/lib/matchbox/assets", "vmlinuz", "initramfs.xz", "matchbox image"),
            ("_out/assets", "kernel-arm64", "initramfs-metal-arm64.xz", "build output"),
        ];
        for (prefix, kernel, initramfs, name) in pairs {
            let files = [format!("{prefix}/{kernel}"), format!("{prefix}/{initramfs}")];
            let files: Vec<_> = files.iter().map(String::as_str).collect();
            assert_eq!(layout(&files, ""), (name.to_owned(), files[0].to_owned()));
            assert_eq!(layout(&files, prefix).1, files[0]);
        }
        let unified = ["usr/install/arm64/vmlinuz.efi", "usr/install/arm64/systemd-boot.efi"];
        assert_eq!(layout(&unified, "").0, "installer image with a unified kernel image");
        assert_eq!(layout(&unified, unified[0]).0, "unified kernel image");
    }

    const RELEASE: [&str; 4] = [
        "talos-initramfs-arm64-spin-talos-v1.12.7-cozy-v1.xz",
        "talos-kernel-arm64-spin-talos-v1.12.7-cozy-v1",
        "talos-initramfs-arm64-tailscale-talos-v1.12.7-cozy-v1.xz",
        "talos-kernel-arm64-tailscale-talos-v1.12.7-cozy-v1",
    ];

    #[test]
    fn a_release_is_one_variant_or_asks_which() {
        assert_eq!(layout(&RELEASE[..2], ""), ("release files".to_owned(), RELEASE[1].to_owned()));
        assert_eq!(layout(&RELEASE, RELEASE[2]).1, RELEASE[3]);
        let directory = directory(&RELEASE);
        let error = Found::at(directory.path()).expect_err("several").to_string();
        assert!(error.contains("several variants: spin-talos-v1.12.7-cozy-v1, tailscale-"), "{error}");
    }

    #[test]
    fn what_is_there_and_what_was_expected_is_told() {
        let directory = directory(&["usr/install/amd64/vmlinuz", "notes.txt"]);
        let error = Found::at(directory.path()).expect_err("nothing").to_string();
        assert!(
            error.contains("found notes.txt, usr/install/amd64/vmlinuz (this is an image of amd64"),
            "{error}"
        );
        assert!(error.contains("var/lib/matchbox/assets/{vmlinuz,initramfs.xz} (matchbox image)"), "{error}");
        let error = Found::at(&directory.path().join("gone")).expect_err("gone").to_string();
        assert!(error.contains("found nothing (No such file"), "{error}");
    }

    #[test]
    fn files_of_an_image_are_told_from_the_rest_of_a_file_system() {
        for path in ["assets/talos/arm64/vmlinuz", "usr/install/amd64/vmlinuz.efi", "vmlinuz", "boot/vmlinuz"]
        {
            assert!(belongs(path), "{path}");
        }
        assert!(!belongs("usr/bin/installer") && !belongs("etc/passwd"));
    }
}
