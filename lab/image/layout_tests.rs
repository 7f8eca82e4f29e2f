use lab_image_fixtures::{disk, pe};
use lab_model::Digest;

use super::*;
use crate::NodeImage;

fn directory(files: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("tempdir");
    for file in files {
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        let arm64 = object::pe::IMAGE_FILE_MACHINE_ARM64;
        let unified = pe(arm64, &[(".linux", b"k"), (".initrd", b"i")]);
        std::fs::write(path, unified).expect("write");
    }
    directory
}

fn layout(files: &[&str], below: &str) -> (String, String) {
    let directory = directory(files);
    let found = Found::at(&directory.path().join(below), &DiskCache::unused()).expect("found");
    let kernel = found.kernel.file.strip_prefix(directory.path()).expect("within");
    (found.layout, kernel.display().to_string())
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
    let error = Found::at(directory.path(), &DiskCache::unused()).expect_err("several").to_string();
    assert!(error.contains("several variants: spin-talos-v1.12.7-cozy-v1, tailscale-"), "{error}");
}

/// Creates a directory with disk images under these names, and a cache for their contents.
fn disk_images(names: &[&str]) -> (tempfile::TempDir, DiskCache) {
    let directory = tempfile::tempdir().expect("tempdir");
    let unified = pe(object::pe::IMAGE_FILE_MACHINE_ARM64, &[(".linux", b"k"), (".initrd", b"i")]);
    for name in names {
        let path = directory.path().join("out").join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        std::fs::write(path, disk(&[("EFI/Linux/Talos-v1.11.5.efi", &unified)], &[])).expect("write");
    }
    let cache = DiskCache::new(directory.path().join("cache"));
    (directory, cache)
}

#[test]
fn a_disk_image_is_known_by_its_content_whatever_its_name() {
    for name in ["_out/assets/metal-arm64.raw.xz", "talos-metal-arm64-spin-talos-v1.12.7-cozy-v1.raw", "disk"]
    {
        let (directory, cache) = disk_images(&[name]);
        for below in ["out".to_owned(), format!("out/{name}")] {
            let found = Found::at(&directory.path().join(below), &cache).expect("found");
            assert_eq!(found.layout, "disk image: UKI Talos-v1.11.5.efi in the EFI system partition");
            assert_eq!(found.files, [directory.path().join("out").join(name)]);
        }
    }
}

#[test]
fn of_several_disk_images_one_is_to_be_named_unless_the_others_are_of_another_architecture() {
    let (directory, cache) = disk_images(&["metal-arm64.raw", "metal-amd64.raw"]);
    let found = Found::at(&directory.path().join("out"), &cache).expect("found");
    assert_eq!(found.name_of(&found.files[0]), "metal-arm64.raw");
    let (directory, cache) = disk_images(&["metal-arm64.raw", "nocloud-arm64.raw"]);
    let error = Found::at(&directory.path().join("out"), &cache).expect_err("several").to_string();
    assert!(error.contains("several variants: metal-arm64.raw, nocloud-arm64.raw"), "{error}");
}

#[test]
fn a_disk_image_of_amd64_is_told_with_its_path() {
    let directory = tempfile::tempdir().expect("tempdir");
    let unified = pe(object::pe::IMAGE_FILE_MACHINE_AMD64, &[(".linux", b"k"), (".initrd", b"i")]);
    let path = directory.path().join("metal.raw");
    std::fs::write(&path, disk(&[("EFI/Linux/Talos-v1.11.5.efi", &unified)], &[])).expect("write");
    let error =
        Found::at(&path, &DiskCache::new(directory.path().join("cache"))).expect_err("amd64").to_string();
    let expected = format!(
        "disk image {}: Talos-v1.11.5.efi in its EFI system partition: it is a kernel for amd64",
        path.display()
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_disk_image_is_covered_by_the_checksums_beside_it() {
    let (directory, cache) = disk_images(&["metal-arm64.raw"]);
    let path = directory.path().join("out/metal-arm64.raw");
    let hex = |content: &[u8]| Digest::of_bytes(content).hex();
    let sums = |hex: &str| format!("{hex}  metal-arm64.raw\n{hex}  metal-amd64.raw.xz\n");
    let list = directory.path().join("out/SHA256SUMS");
    std::fs::write(&list, sums(&hex(&std::fs::read(&path).expect("read")))).expect("write");
    assert!(NodeImage::open(&path, &cache).expect("open").verified);
    std::fs::write(&list, sums(&hex(b"other"))).expect("write");
    let error = NodeImage::open(&path, &cache).expect_err("mismatch").to_string();
    assert!(error.contains("metal-arm64.raw has sha256:"), "{error}");
    std::fs::write(&list, format!("{}  metal-amd64.raw.xz\n", hex(b"x"))).expect("write");
    let error = NodeImage::open(&path, &cache).expect_err("uncovered").to_string();
    assert!(error.contains("metal-arm64.raw is not covered"), "{error}");
}

#[test]
fn what_is_there_and_what_was_expected_is_told() {
    let directory = directory(&["usr/install/amd64/vmlinuz", "notes.txt"]);
    let error = Found::at(directory.path(), &DiskCache::unused()).expect_err("nothing").to_string();
    assert!(error.contains("found notes.txt, usr/install/amd64/vmlinuz (this image is for amd64"), "{error}");
    assert!(error.contains("var/lib/matchbox/assets/{vmlinuz,initramfs.xz} (matchbox image)"), "{error}");
    let error =
        Found::at(&directory.path().join("gone"), &DiskCache::unused()).expect_err("gone").to_string();
    assert!(error.contains("found nothing (No such file"), "{error}");
}

#[test]
fn files_of_an_image_are_told_from_the_rest_of_a_file_system() {
    for path in ["assets/talos/arm64/vmlinuz", "usr/install/amd64/vmlinuz.efi", "vmlinuz", "boot/vmlinuz"] {
        assert!(belongs(path), "{path}");
    }
    assert!(!belongs("usr/bin/installer") && !belongs("etc/passwd"));
}
