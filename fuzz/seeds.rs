//! Writes the inputs that fuzzing starts from: `seeds DIRECTORY`, a folder for each target.

/// Small images, as the unit tests have them.
#[path = "../lab/assets/fixture.rs"]
#[allow(dead_code)]
mod fixture;

use std::{
    fs,
    io::{self, Cursor, Write},
    path::Path,
    process::Command,
};

use backhand::{
    FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Lz4},
};
use fixture::{archive, pe};

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
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&image)?;
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
    for (name, kernel) in [("raw", image), ("gzip", gzip.finish()?), ("zstd", packed), ("zboot", zboot)] {
        write("kernel", name, &kernel)?;
    }
    Ok(())
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
