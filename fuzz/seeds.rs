//! Writes the inputs that fuzzing starts from: `seeds DIRECTORY`, a folder for each target.

mod seeds_of_answers;
mod seeds_of_machines;
mod seeds_of_releases;

use std::{
    fs,
    io::{self, Cursor},
    path::Path,
    process::Command,
};

use backhand::{
    FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Lz4},
};
use lab_image_fixtures::{Files, archive, fat, gzip, partitioned, pe, xz};

const EXTENSIONS: &[u8] = b"layers:\n- {image: 0.sqsh, metadata: {name: tailscale, version: v1, \
    compatibility: {talos: {version: '>= v1.11.5'}}}}\n- image: 1.sqsh\n  metadata: &m {name: modules.dep}\n";
const SPEC: &[u8] =
    b"name: tailscale\ndepends:\n- service: cri\n- path: /dev/net/tun\n- network: [addresses]\n\
    - time: true\n- configuration: true\ncontainer: {environmentFile: /e, entrypoint: /x}\n";
const PART: &[u8] =
    b"[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.spin]\nruntime_type = \"r\"\n";
const RELEASE: &[u8] = b"PRETTY_NAME=\"Talos (v1.11.5)\"\n";

const CONFIG: &[u8] = b"# talm: nodes=[]\nmachine: &m\n  type: worker\n  files:\n  - content: |\n      a: b\n---\n\
    apiVersion: v1alpha1\nkind: ExtensionServiceConfig\nenvironment: [ \"TS_ROUTES=10.96.0.0/12\" ]\nother: *m\n";

const FILES: [(&str, &[u8]); 5] = [
    ("usr/local/etc/containers/tailscale.yaml", SPEC),
    ("etc/cri/conf.d/10-spin.part", PART),
    ("usr/lib/os-release", RELEASE),
    ("usr/lib/modules/6.12/kernel/drbd.ko", b""),
    ("usr/lib/modules/6.12/kernel/blocks.ko", &[7; 9000]),
];

fn main() -> io::Result<()> {
    let target = std::env::args().nth(1).ok_or_else(|| io::Error::other("usage: seeds DIRECTORY"))?;
    let write = |folder: &str, name: &str, content: &[u8]| {
        let folder = Path::new(&target).join(folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), content)
    };
    write("extensions", "two", EXTENSIONS)?;
    write("service_spec", "tailscale", SPEC)?;
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    write("checksums", "two", format!("{hex}  ./boot/vmlinuz\n{hex} *initramfs.xz\n").as_bytes())?;

    seeds_of_releases::write(&write)?;

    let mut layers = Vec::new();
    for (name, compressor) in [
        ("gzip", Compressor::Gzip),
        ("xz", Compressor::Xz),
        ("lz4", Compressor::Lz4),
        ("zstd", Compressor::Zstd),
    ] {
        layers.push((name.to_owned(), squashfs(compressor)));
    }
    match plain_squashfs() {
        Ok(layer) => layers.push(("plain".to_owned(), layer)),
        Err(error) => {
            eprintln!("no seed of plain tables (mksquashfs: {error}); the squashfs target reaches less")
        }
    }
    for (name, layer) in &layers {
        write("squashfs", name, layer)?;
    }
    let root = &layers[layers.len() - 1].1;
    let whole = archive(&[
        ("init", b"#!"),
        ("rootfs.sqsh", root),
        ("0.sqsh", root),
        ("extensions.yaml", b"layers: []"),
    ]);
    write("archive", "whole", &whole)?;
    write("archive", "small", &archive(&[("./a/b", b"x")]))?;
    for kind in 0..4u8 {
        write("initramfs", &format!("kind{kind}"), &[&[kind][..], &whole].concat())?;
    }
    let two = [archive(&[("a", &vec![0; whole.len() - 228])]), whole].concat();
    write("initramfs", "kind4", &[&[4][..], &two].concat())?;

    let mut image = vec![0; 0x400];
    image[0x38..0x3c].copy_from_slice(b"ARM\x64");
    image.extend(b"Linux version 6.12.5-talos (x) #1\0");
    let packed = zstd::encode_all(&image[..], 1)?;
    let head = |size: usize| {
        [b"MZ\0\0zimg".to_vec(), 64u32.to_le_bytes().to_vec(), (size as u32).to_le_bytes().to_vec()].concat()
    };
    let mut zboot = head(packed.len());
    zboot.resize(64, 0);
    zboot.extend(&packed);
    let lz4 = lz4_flex::block::compress(&image);
    let lz4 = [&[0x02, 0x21, 0x4c, 0x18][..], &(lz4.len() as u32).to_le_bytes(), &lz4].concat();
    let unified =
        pe(0xaa64, &[(".cmdline", b"talos.platform=metal\0"), (".linux", &image), (".initrd", &[7; 600])]);
    write("unified", "whole", &unified)?;
    write("kernel", "unified", &unified)?;
    write("kernel", "lz4", &lz4)?;
    write("config", "documents", CONFIG)?;
    disks(&unified, &write)?;
    images(&layers[0].1, &write)?;
    for (target, name, content) in seeds_of_machines::all().into_iter().chain(seeds_of_answers::all()) {
        write(target, &name, &content)?;
    }
    let xz = xz(&image);
    for (name, stream) in [("zstd", &packed), ("xz", &xz), ("lz4", &lz4)] {
        write("packed", name, stream)?;
    }
    // One wrapping within the other, as Talos has it.
    let nested = pe(0xaa64, &[(".linux", &zboot), (".initrd", &[7; 600])]);
    write("kernel", "nested", &zstd::encode_all(&nested[..], 1)?)?;
    for (name, kernel) in [("gzip", gzip(&image)), ("raw", image), ("zstd", packed), ("zboot", zboot)] {
        write("kernel", name, &kernel)?;
    }
    Ok(())
}

/// Writes a seed: target, name, content.
type Seed<'a> = &'a dyn Fn(&str, &str, &[u8]) -> io::Result<()>;

fn disks(unified: &[u8], write: Seed<'_>) -> io::Result<()> {
    let system = |files: &Files<'_>| fat(fatfs::FatType::Fat12, 20 << 10, files);
    let two = system(&[
        ("EFI/Linux/Talos-v1.11.5.efi", unified),
        ("EFI/Linux/Talos-v1.11.5~1.efi", b"MZ"),
        ("loader/loader.conf", b"timeout 10\ndefault talos-*~1.efi\n"),
    ]);
    write("disk", "two", &partitioned(&[("EFI", &two), ("META", b"")]))?;
    let grub = system(&[("EFI/BOOT/BOOTAA64.EFI", b"MZ")]);
    write("disk", "grub", &partitioned(&[("EFI", &grub), ("BIOS", b""), ("BOOT", b"XFSB")]))?;
    write("boot_entries", "two", b"default talos-v1.1[12]*\n\0Talos-v1.12.0~1.efi\nTalos-v1.11.5.efi\n")
}

/// Images in the OCI formats, their parts joined as the target takes them apart.
fn images(squashfs: &[u8], write: Seed<'_>) -> io::Result<()> {
    const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
        {"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"@","size":7,
         "platform":{"architecture":"arm64","os":"linux"},"annotations":{"org.opencontainers.image.ref.name":"a/b:v1"}}]}"#;
    const MANIFEST: &str = r##"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"@","size":7},
        "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"#","size":7}]}"##;
    const CONFIG: &str = r#"{"architecture":"arm64","os":"linux","created":"2026-01-02T03:04:05Z",
        "rootfs":{"type":"layers","diff_ids":["@"]}}"#;
    const SAVED: &str = r#"[{"Config":"c.json","RepoTags":["talos:v1"],"Layers":["l/layer.tar"]}]"#;
    let mut layer = tar::Builder::new(Vec::new());
    for (name, content) in [("boot/vmlinuz", squashfs), ("boot/.wh.old", b""), (".wh..wh..opq", b"")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        layer.append_data(&mut header, name, content)?;
    }
    let layer = layer.into_inner()?;
    let of = |kind: u8, parts: &[&[u8]]| [&[kind][..], &parts.join(&[0xff, 0xff][..])].concat();
    let parts = [INDEX.as_bytes(), MANIFEST.as_bytes(), CONFIG.as_bytes(), &layer];
    write("image", "layout", &of(0, &parts))?;
    write("image", "archive", &of(1, &parts))?;
    write("image", "saved", &of(2, &[SAVED.as_bytes(), CONFIG.as_bytes(), &layer]))?;
    write("image", "raw", &[&[3][..], &zstd::encode_all(&layer[..], 1)?].concat())?;
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let reference = "ghcr.io/urmanac/talos-cozystack-spin-only/talos:v1.11.5";
    let lock = format!(
        "{reference}\nimages:\n  {reference}:\n    digest: sha256:{hex}\n    pinned: 2026-01-01T00:00:00Z\n"
    );
    write("lock", "one", lock.as_bytes())?;
    write("lock", "digest", format!("localhost:5000/a/b@sha256:{hex}\nimages: {{}}\n").as_bytes())
}

fn squashfs(compressor: Compressor) -> Vec<u8> {
    let mut writer = FilesystemWriter::default();
    writer.set_block_size(4096);
    writer.set_no_padding();
    let options =
        (compressor == Compressor::Lz4).then_some(CompressionOptions::Lz4(Lz4 { version: 1, flags: 0 }));
    writer.set_compressor(FilesystemCompressor::new(compressor, options).expect("compressor"));
    let header = NodeHeader { permissions: 0o755, ..NodeHeader::default() };
    for (path, content) in FILES {
        let (folder, _) = path.rsplit_once('/').expect("folder");
        writer.push_dir_all(folder, header).expect("folder");
        writer.push_file(Cursor::new(content), path, header).expect("file");
    }
    writer.push_symlink("usr/lib/modules/6.12", "lib", header).expect("link");
    let mut out = Cursor::new(Vec::new());
    writer.write(&mut out).expect("write");
    out.into_inner()
}

/// With tables and data that are not compressed, so that a changed byte means something else.
fn plain_squashfs() -> io::Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join("tree");
    for (path, content) in FILES {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().expect("folder"))?;
        fs::write(path, content)?;
    }
    let file = folder.path().join("layer");
    let made = Command::new("mksquashfs")
        .args([&tree, &file])
        .args(["-noI", "-noD", "-noF", "-no-xattrs", "-nopad", "-b", "4096", "-all-root", "-quiet"])
        .output()?;
    if !made.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
    }
    fs::read(file)
}
