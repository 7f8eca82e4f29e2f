//! Tests each check with an image that fails it and an image that passes it.

use std::{fs, path::Path};

use lab_image::{DiskCache, Inspection};
use lab_image_fixtures::{self as fixture, Files};
use lab_model::{Digest, Origin};

use super::*;

/// Creates an image directory with checksums.
fn directory(extensions: &[(&str, &Files<'_>)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("tempdir");
    let mut sums = String::new();
    for (name, content) in [("vmlinuz", fixture::kernel()), ("initramfs.xz", fixture::initramfs(extensions))]
    {
        sums += &format!("{}  {name}\n", Digest::of_bytes(&content).hex());
        fs::write(directory.path().join(name), content).expect("write");
    }
    fs::write(directory.path().join("checksums.sha256"), sums).expect("write");
    directory
}

fn image(name: &str, role: Option<&str>, directory: &Path) -> PreflightImage {
    PreflightImage {
        role: role.map(|role| Role::new(role).expect("role")),
        origin: Origin { source: name.to_owned(), ..Origin::default() },
        inspection: Inspection::of(directory, &DiskCache::unused()).expect("inspect"),
    }
}

fn checked(images: Vec<PreflightImage>) -> Preflight {
    let limits = Limits {
        age: Duration::from_secs(60 * 24 * 3600),
        now: "2026-06-01T00:00:00Z".parse().expect("time"),
    };
    Preflight::of(images, limits)
}

fn found(images: Vec<PreflightImage>) -> Vec<String> {
    let checked = checked(images);
    let line = |finding: &Diagnostic| {
        let check = finding.rule.as_deref().unwrap_or("no check");
        format!("{check}: {}: {}", finding.file, finding.message)
    };
    checked.findings.iter().map(line).collect()
}

const SPIN: (&str, &Files<'_>) = ("spin", &[("usr/local/bin/shim", b"spin")]);
const TAILSCALED: (&str, &Files<'_>) = (TAILSCALE, &[("usr/local/bin/tailscaled", b"tailscaled")]);

#[test]
fn a_compute_image_and_its_gateway_pass() {
    let (compute, gateway) = (directory(&[SPIN]), directory(&[SPIN, TAILSCALED]));
    let images =
        vec![image("c", Some("compute"), compute.path()), image("g", Some("gateway"), gateway.path())];
    assert_eq!(found(images), Vec::<String>::new());
}

#[test]
fn a_gateway_that_is_the_compute_image_is_told_as_both() {
    let compute = directory(&[SPIN]);
    let images =
        vec![image("c", Some("compute"), compute.path()), image("g", Some("gateway"), compute.path())];
    let expected = [
        "role: g: is meant for the gateway and lacks the extension tailscale",
        "same: g: has the same content as c",
    ];
    assert_eq!(found(images), expected);
    let gateway = directory(&[SPIN, TAILSCALED]);
    let expected = ["role: c: is meant for compute nodes and has the extension tailscale"];
    assert_eq!(found(vec![image("c", Some("compute"), gateway.path())]), expected);
}

#[test]
fn a_gateway_adds_tailscale_and_nothing_else() {
    let (compute, gateway) = (directory(&[SPIN]), directory(&[("zfs", &[]), TAILSCALED]));
    // The order of the images does not affect the result.
    let images =
        vec![image("g", Some("gateway"), gateway.path()), image("c", Some("compute"), compute.path())];
    let found = found(images);
    assert_eq!(found.len(), 1, "{found:?}");
    let expected =
        "delta: g: should differ from c by exactly +tailscale, and differs by: +tailscale, +zfs, -spin";
    assert!(found[0].starts_with(&expected[..60]), "{found:?}");
}

#[test]
fn checksums_that_fail_are_told_file_by_file() {
    let directory = directory(&[SPIN]);
    let path = directory.path().join("vmlinuz");
    fs::write(&path, [fixture::kernel(), vec![0; 4]].concat()).expect("write");
    let expected = ["checksums: c: vmlinuz differs from its checksum"];
    assert_eq!(found(vec![image("c", None, directory.path())]), expected);
    fs::remove_file(directory.path().join("checksums.sha256")).expect("remove");
    let expected = ["checksums: c: no checksum file covers the boot files"];
    assert_eq!(found(vec![image("c", None, directory.path())]), expected);
}

#[test]
fn programs_of_another_architecture_are_found() {
    // The header of an ELF-64 file, in the byte order of the architecture.
    let elf = |order: u8, machine: [u8; 2]| {
        let mut head = [b"\x7fELF\x02", &[order, 1][..]].concat();
        head.resize(18, 0);
        head.extend(machine);
        head.resize(64, 0);
        head
    };
    let (arm64, amd64, s390x) = (elf(1, [0xb7, 0]), elf(1, [0x3e, 0]), elf(2, [0, 22]));
    let mixed = directory(&[
        ("good", &[("usr/local/bin/a", &arm64)]),
        ("bad", &[("usr/local/bin/b", &amd64), ("usr/local/bin/c", &s390x)]),
    ]);
    let expected = [
        "architecture: c: 1.sqsh: usr/local/bin/b is a program for amd64",
        "architecture: c: 1.sqsh: usr/local/bin/c is a program for machine type 22",
    ];
    assert_eq!(found(vec![image("c", None, mixed.path())]), expected);
    let good = directory(&[SPIN]);
    let mut mislabelled = image("c", None, good.path());
    mislabelled.origin.architecture = Some("amd64".to_owned());
    assert_eq!(
        found(vec![mislabelled]),
        ["architecture: c: its content is for arm64 and its config says amd64"]
    );
}

#[test]
fn only_a_tag_can_be_old() {
    let directory = directory(&[SPIN]);
    let of = |created: &str, mutable| {
        let mut image = image("c", None, directory.path());
        image.origin = Origin { created: Some(created.to_owned()), mutable, ..image.origin };
        found(vec![image])
    };
    assert_eq!(of("2026-01-02T03:04:05Z", true), ["age: c: the tag names a build of 149 days ago"]);
    assert!(of("2026-01-02T03:04:05Z", false).is_empty());
    assert!(of("2026-05-20T03:04:05Z", true).is_empty());
    assert!(of("1970-01-01T00:00:00Z", true).is_empty());
}

#[test]
fn a_finding_has_the_names_of_an_images_in_the_json() {
    let directory = directory(&[SPIN]);
    fs::remove_file(directory.path().join("checksums.sha256")).expect("remove");
    let checked = checked(vec![image("c", None, directory.path())]);
    let json = serde_json::to_value(&checked).expect("json");
    assert_eq!(
        json["findings"].to_string(),
        "[{\"severity\":\"warning\",\"check\":\"checksums\",\"image\":\"c\",\"message\":\"no checksum file covers the boot \
         files\",\"help\":\"put checksums.sha256 beside them: sha256sum boot/vmlinuz boot/initramfs.xz > \
         checksums.sha256\"}]"
    );
    assert!(checked.passed(), "a warning does not stand in the way");
}
