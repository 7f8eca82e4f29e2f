//! `lab image inspect`: what it prints of small images, and how fast it is on the built ones.

#[path = "support/command.rs"]
mod command;

use std::{
    fs,
    io::{Cursor, Write},
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use backhand::{FilesystemCompressor, FilesystemWriter, NodeHeader, compression::Compressor};
use command::{built, said};
use lab_image::{DiskCache, Inspection};
use lab_model::Digest;

const TAILSCALE: &str = "\
name: tailscale
depends:
  - service: cri
  - network: [addresses, connectivity]
  - time: true
  - configuration: true
container: {entrypoint: /usr/local/bin/containerboot}
";
const SPIN: &str = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.spin]\nruntime_type = 'x'\n";

fn squashfs(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut writer = FilesystemWriter::default();
    writer.set_compressor(FilesystemCompressor::new(Compressor::Zstd, None)?);
    let header = NodeHeader { permissions: 0o755, ..NodeHeader::default() };
    for (path, text) in files {
        let (folder, _) = path.rsplit_once('/').context("a file in no folder")?;
        writer.push_dir_all(folder, header)?;
        writer.push_file(Cursor::new(text.as_bytes().to_vec()), path, header)?;
    }
    let mut out = Cursor::new(Vec::new());
    writer.write(&mut out)?;
    Ok(out.into_inner())
}

/// None of these images is a disk image, of which something would be kept.
fn disks() -> DiskCache {
    DiskCache::new("/dev/null/disks")
}

/// A small image with drbd, spin and, for a gateway, tailscale. Its checksum file covers all of
/// it and a file that is not there.
fn image(gateway: bool) -> Result<tempfile::TempDir> {
    let root = [
        ("usr/lib/os-release", "PRETTY_NAME=\"Talos (v1.11.5)\"\n"),
        ("usr/lib/modules/6.12/kernel/libcrc32c.ko", ""),
    ];
    let drbd =
        [("usr/lib/modules/6.12/kernel/drbd.ko.xz", ""), ("usr/lib/modules/6.12/kernel/libcrc32c.ko.xz", "")];
    let mut extensions = vec![("drbd", "9.2.14", squashfs(&drbd)?)];
    extensions.push(("spin", "v0.21.0", squashfs(&[("etc/cri/conf.d/10-spin.part", SPIN)])?));
    if gateway {
        let files = [("usr/local/etc/containers/tailscale.yaml", TAILSCALE)];
        extensions.push(("tailscale", "1.88.3", squashfs(&files)?));
    }
    extensions.push(("modules.dep", "6.12", squashfs(&[("usr/lib/modules/6.12/modules.dep", "")])?));
    let mut manifest = "layers:\n".to_owned();
    let mut files = vec![("rootfs.sqsh".to_owned(), squashfs(&root)?)];
    for (number, (name, version, layer)) in extensions.into_iter().enumerate() {
        manifest += &format!("- {{image: {number}.sqsh, metadata: {{name: {name}, version: {version}}}}}\n");
        files.push((format!("{number}.sqsh"), layer));
    }
    files.push(("extensions.yaml".to_owned(), manifest.into_bytes()));
    let inputs = files
        .into_iter()
        .map(|(name, content)| (cpio::NewcBuilder::new(&name).mode(0o100_644), Cursor::new(content)));
    let initramfs = zstd::encode_all(&cpio::write_cpio(inputs, Vec::new())?[..], 1)?;
    let mut kernel = vec![0; 0x100];
    kernel[0x38..0x3c].copy_from_slice(b"ARM\x64");
    kernel.extend(b"Linux version 6.12.5-talos (builder@) #1 SMP\0");

    let directory = tempfile::tempdir()?;
    let mut sums = format!("{}  ./gone.txt\n", "0".repeat(64));
    fs::create_dir(directory.path().join("boot"))?;
    for (name, content) in [("boot/vmlinuz", kernel), ("boot/initramfs.xz", initramfs)] {
        sums += &format!("{}  ./{name}\n", Digest::of_bytes(&content).hex());
        fs::write(directory.path().join(name), content)?;
    }
    fs::write(directory.path().join("checksums.sha256"), sums)?;
    Ok(directory)
}

/// `text` with the directory and every digest replaced.
fn stable(text: &str, directory: &Path) -> String {
    let text = text.replace(&directory.display().to_string(), "IMAGE");
    let mut parts = text.split("sha256:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += "sha256:…";
        out += part.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out
}

fn lab(arguments: &[&str], images: &[&Path]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["image", "inspect"])
        .args(arguments)
        .args(images)
        .output()?)
}

#[test]
fn an_image_is_told_line_by_line() -> Result<()> {
    let directory = image(true)?;
    let text = Inspection::of(directory.path(), &disks())?.to_string();
    insta::assert_snapshot!(stable(&text, directory.path()));
    Ok(())
}

#[test]
fn two_images_differ_by_what_the_extension_brings() -> Result<()> {
    let (compute, gateway) = (image(false)?, image(true)?);
    let (compute, gateway) =
        (Inspection::of(compute.path(), &disks())?, Inspection::of(gateway.path(), &disks())?);
    let difference = compute.difference(&gateway);
    insta::assert_snapshot!(difference.to_string(), @"+tailscale, +service ext-tailscale");
    assert!(difference.adds_exactly(&["tailscale".to_owned()]));
    assert!(!difference.adds_exactly(&["zfs".to_owned()]));
    assert!(!gateway.difference(&compute).adds_exactly(&[]));
    Ok(())
}

#[test]
fn what_is_asserted_decides_the_exit_code() -> Result<()> {
    let (compute, gateway) = (image(false)?, image(true)?);
    // The file that is promised and missing is left out here.
    for image in [&compute, &gateway] {
        let path = image.path().join("checksums.sha256");
        let sums = fs::read_to_string(&path)?;
        fs::write(&path, sums.split_once('\n').context("lines")?.1)?;
    }
    let images = [compute.path(), gateway.path()];
    assert_eq!(lab(&["--adds", "tailscale"], &images)?.status.code(), Some(0));
    let wrong = lab(&["--adds", "tailscale,zfs"], &images)?;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        said(&wrong).contains("by exactly +tailscale, +zfs, and differs by: +tailscale"),
        "{}",
        said(&wrong)
    );
    let json = lab(&["--json"], &images)?;
    let value: serde_json::Value = serde_json::from_slice(&json.stdout)?;
    assert_eq!(value["images"][1]["contents"]["services"][0]["id"], "ext-tailscale");
    assert_eq!(value["differences"][0]["added"][0], "tailscale");
    Ok(())
}

#[test]
fn names_of_an_image_do_not_reach_the_terminal_raw() -> Result<()> {
    let directory = image(false)?;
    let mut inspection = Inspection::of(directory.path(), &disks())?;
    inspection.contents.runtime_handlers = vec!["spin\u{1b}[2J".to_owned()];
    assert!(inspection.to_string().contains("spin\\u{1b}[2J"));
    Ok(())
}

/// A host at work takes so many times as long as an idle one. What reads an image twice, or unpacks what it need not,
/// takes longer still.
const BUSY: u32 = 4;

/// Runs until it is once as fast as `limit` on an idle host, three times at most: other work on this machine says nothing
/// about the speed.
fn within(limit: Duration, arguments: &[&str], images: &[&Path]) -> Result<Output> {
    let limit = limit * BUSY;
    let mut taken = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        let output = lab(arguments, images)?;
        taken.push(started.elapsed());
        if started.elapsed() < limit {
            eprintln!("took {taken:?}");
            return Ok(output);
        }
    }
    anyhow::bail!("took {taken:?}, each more than {limit:?}")
}

#[test]
fn both_built_images_are_told_in_seconds() -> Result<()> {
    let (compute, gateway) = (built("compute")?, built("gateway")?);
    let output = within(Duration::from_secs(3), &["--adds", "tailscale"], &[&compute, &gateway])?;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "extension      spin ",
        "runtime        spin\n",
        "module         drbd\n",
        "service        ext-tailscale of tailscale, waits for service cri; ",
        "against the first: +tailscale, +service ext-tailscale",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    Ok(())
}

/// A copy of the built gateway image with a damaged initramfs.
fn damaged(damage: impl FnOnce(&mut Vec<u8>)) -> Result<tempfile::TempDir> {
    let gateway = built("gateway")?;
    let directory = tempfile::tempdir()?;
    fs::create_dir(directory.path().join("boot"))?;
    std::os::unix::fs::symlink(
        fs::canonicalize(gateway.join("boot/vmlinuz"))?,
        directory.path().join("boot/vmlinuz"),
    )?;
    fs::copy(gateway.join("checksums.sha256"), directory.path().join("checksums.sha256"))?;
    let mut initramfs = fs::read(gateway.join("boot/initramfs.xz"))?;
    damage(&mut initramfs);
    fs::File::create(directory.path().join("boot/initramfs.xz"))?.write_all(&initramfs)?;
    Ok(directory)
}

#[test]
fn a_flipped_byte_of_a_built_image_is_told_with_its_place_at_once() -> Result<()> {
    let directory = damaged(|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    })?;
    let output = within(Duration::from_secs(1), &[], &[directory.path()])?;
    let text = said(&output);
    assert_ne!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("boot/initramfs.xz"), "{text}");
    assert!(text.contains("at byte ") || text.contains("❌ boot/initramfs.xz differs"), "{text}");
    Ok(())
}

#[test]
fn a_truncated_built_image_is_told_with_its_place_at_once() -> Result<()> {
    let directory = damaged(|bytes| bytes.truncate(bytes.len() / 2))?;
    let output = within(Duration::from_secs(1), &[], &[directory.path()])?;
    let text = said(&output);
    assert_ne!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("boot/initramfs.xz") && text.contains("at byte "), "{text}");
    Ok(())
}
