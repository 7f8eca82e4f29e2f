//! Worst inputs for the readers of images and for the client of registries.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
};

use anyhow::Result;
use lab_image_fixtures::{archive, disk, gzip, initramfs, kernel, squashfs, xz};
use lab_model::Digest;
use lab_oci::images::Layout;
use serde_json::json;

use super::{Case, put, words};

const MIB: usize = 1 << 20;

pub const CASES: &[Case] = &[
    Case {
        reader: "manifest, index, image config",
        input: "4 MiB of JSON values",
        prepare: index_of_values,
        ends: "index.json",
        declared: 0,
    },
    Case {
        reader: "manifest, index, image config",
        input: "a registry sends one without end",
        prepare: |_| asked(Endless::Manifest),
        ends: "a manifest has more than 4096 KiB",
        declared: 4 << 20,
    },
    Case {
        reader: "answer of a token service",
        input: "a registry sends one without end",
        prepare: |_| asked(Endless::Token),
        ends: "an answer of a token service has more than",
        declared: 0,
    },
    Case {
        reader: "blob",
        input: "without end, 64 MiB promised",
        prepare: |_| asked(Endless::Blob),
        ends: "than the 67108864 bytes",
        declared: 64 << 20,
    },
    Case {
        reader: "header of a tar entry",
        input: "a name of 7 GiB",
        prepare: endless_name,
        ends: "a header for a name claims 7516192768 bytes",
        declared: 0,
    },
    Case {
        reader: "archive of an image",
        input: "10,000 names of 4,000 bytes",
        prepare: many_names,
        ends: "it has more than 10000 files",
        declared: 0,
    },
    Case {
        reader: "files of an image",
        input: "whiteouts of 4,000 bytes",
        prepare: many_whiteouts,
        ends: "its paths need more than 32 MiB",
        declared: 0,
    },
    Case {
        reader: "files of an image",
        input: "300 MiB in a layer of 30 KB, zstd window of 128 MiB",
        prepare: wide_layer,
        ends: "vmlinuz",
        declared: 300 << 20,
    },
    Case {
        reader: "kernel",
        input: "packed twice, as large as allowed both times",
        prepare: nested_kernel,
        ends: "vmlinuz",
        declared: 0,
    },
    Case {
        reader: "initramfs",
        input: "250 MiB in 40 KB, xz dictionary of 192 MiB",
        prepare: wide_initramfs,
        ends: "initramfs",
        declared: 0,
    },
    Case {
        reader: "layer of an initramfs",
        input: "20,000 long names",
        prepare: many_files,
        ends: "rootfs.sqsh",
        declared: 0,
    },
    Case {
        reader: "disk image",
        input: "1 GiB of nothing around a boot loader",
        prepare: sparse_disk,
        ends: "huge.raw",
        declared: 0,
    },
];

fn index_of_values(work: &Path) -> Result<Vec<String>> {
    let values = "0,".repeat((4 * MIB - 100) / 2);
    std::fs::create_dir_all(work.join("image/blobs"))?;
    put(work, "image/index.json", format!(r#"{{"schemaVersion":2,"x":[{values}0]}}"#))?;
    Ok(words("image inspect image"))
}

/// What a registry does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Endless {
    Manifest,
    Token,
    Blob,
}

/// Starts a registry of this process, and returns the command that asks it.
fn asked(lie: Endless) -> Result<Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, lie));
        }
    });
    Ok(words(&format!("mirror pull {at}/app:v1")))
}

/// Answers requests until the client has enough.
fn answer(mut stream: std::net::TcpStream, lie: Endless) {
    let address = stream.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let blob = Digest::of_bytes(b"nobody has it");
    let part =
        json!({ "mediaType": "application/octet-stream", "digest": blob.to_string(), "size": 64 << 20 });
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part, "layers": [part] })
    .to_string();
    let mut request = Vec::new();
    let mut byte = [0];
    loop {
        request.clear();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
        let endless = match lie {
            Endless::Manifest => path.contains("/manifests/"),
            Endless::Token => path.starts_with("/token"),
            Endless::Blob => path.contains("/blobs/"),
        };
        if endless {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = [b"10000\r\n".to_vec(), vec![b' '; 1 << 16], b"\r\n".to_vec()].concat();
            while stream.write_all(&chunk).is_ok() {}
            return;
        }
        let answer = if lie == Endless::Token {
            let challenge =
                format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"s\"");
            format!("HTTP/1.1 401 Unauthorized\r\n{challenge}\r\nContent-Length: 0\r\n\r\n")
        } else {
            let length = manifest.len();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{manifest}")
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn header(kind: tar::EntryType, path: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).expect("a short path");
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header
}

fn endless_name(work: &Path) -> Result<Vec<String>> {
    let mut file = File::create(work.join("image.tar"))?;
    file.write_all(header(tar::EntryType::GNULongName, "x", 7 << 30).as_bytes())?;
    // The bytes are there, and take no space.
    file.set_len(8 << 30)?;
    Ok(words("image inspect image.tar"))
}

/// An entry with a name of four thousand bytes.
fn long(out: &mut impl Write, number: usize, prefix: &str) -> Result<()> {
    let directory = format!("{}/", "d".repeat(199)).repeat(19);
    let name = format!("{directory}{prefix}{number:099}");
    let mut block = name.clone().into_bytes();
    block.resize(name.len().next_multiple_of(512), 0);
    out.write_all(header(tar::EntryType::GNULongName, "x", name.len() as u64).as_bytes())?;
    out.write_all(&block)?;
    Ok(out.write_all(header(tar::EntryType::Regular, "x", 0).as_bytes())?)
}

fn many_names(work: &Path) -> Result<Vec<String>> {
    let mut file = std::io::BufWriter::new(File::create(work.join("image.tar"))?);
    (0..=10_000).try_for_each(|number| long(&mut file, number, ""))?;
    file.flush()?;
    Ok(words("image inspect image.tar"))
}

/// An image layout with one layer, compressed with a window of 128 MiB.
fn layout(work: &Path, layer: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<Vec<String>> {
    let mut packed = zstd::Encoder::new(Vec::new(), 1)?;
    packed.window_log(27)?;
    packed.include_contentsize(false)?;
    layer(&mut packed)?;
    let packed = packed.finish()?;
    let layout = Layout::new(work.join("image"));
    let layer = layout.put("application/vnd.oci.image.layer.v1.tar+zstd", &packed)?;
    let config =
        json!({ "architecture": "arm64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    layout.list(layout.put_image(&config, &[layer])?)?;
    Ok(words("image inspect image --cache cache"))
}

fn many_whiteouts(work: &Path) -> Result<Vec<String>> {
    layout(work, |mut out| (0..10_000).try_for_each(|number| long(&mut out, number, ".wh.")))
}

fn wide_layer(work: &Path) -> Result<Vec<String>> {
    const SIZE: usize = 300 * MIB;
    layout(work, |out| {
        out.write_all(
            header(tar::EntryType::Regular, "assets/talos/arm64/boot/vmlinuz", SIZE as u64).as_bytes(),
        )?;
        let zeros = vec![0; MIB];
        (0..300).try_for_each(|_| out.write_all(&zeros))?;
        let small = initramfs(&[]);
        let head =
            header(tar::EntryType::Regular, "assets/talos/arm64/boot/initramfs.xz", small.len() as u64);
        out.write_all(head.as_bytes())?;
        let mut padded = small;
        padded.resize(padded.len().next_multiple_of(512) + 1024, 0);
        Ok(out.write_all(&padded)?)
    })
}

/// Zeros in a gzip stream that does not compress (RFC 1951, section 3.2.4), without their checksum.
fn stored(size: usize) -> Vec<u8> {
    const BLOCK: usize = 65_535;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    for start in (0..size).step_by(BLOCK) {
        let length = BLOCK.min(size - start) as u16;
        out.push(u8::from(start + BLOCK >= size));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.resize(out.len() + usize::from(length), 0);
    }
    out.extend([0; 8]);
    out
}

fn nested_kernel(work: &Path) -> Result<Vec<String>> {
    // Both are just below the limit.
    let inner = stored(127 * MIB);
    put(work, "image/vmlinuz", gzip(&inner))?;
    put(work, "image/initramfs.xz", initramfs(&[]))?;
    Ok(words("image inspect image"))
}

fn wide_initramfs(work: &Path) -> Result<Vec<String>> {
    let mut packed = xz(&vec![0; 250 * MIB]);
    // The block header behind the 12 bytes of the stream header: its size, flags, the filter LZMA2, the size of its
    // properties and the dictionary, two bits and an exponent (The .xz File Format, sections 3.1 and 5.3.1).
    assert_eq!(packed[12..16], [2, 0, 0x21, 1], "another block header");
    packed[16] = 31;
    let sum = crc32(&packed[12..20]);
    packed[20..24].copy_from_slice(&sum.to_le_bytes());
    put(work, "image/vmlinuz", kernel())?;
    put(work, "image/initramfs.xz", packed)?;
    Ok(words("image inspect image"))
}

/// The checksum of gzip and xz (RFC 1952, section 8).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

fn many_files(work: &Path) -> Result<Vec<String>> {
    let names: Vec<_> = (0..20_000).map(|number| format!("usr/local/bin/{number:0>240}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let layer = squashfs(&files);
    let manifest = b"layers: []\n";
    let packed = archive(&[("rootfs.sqsh", &layer), ("extensions.yaml", manifest)]);
    put(work, "image/vmlinuz", kernel())?;
    put(work, "image/initramfs.xz", packed)?;
    Ok(words("image inspect image"))
}

fn sparse_disk(work: &Path) -> Result<Vec<String>> {
    put(work, "huge.raw", disk(&[("EFI/Linux/talos.efi", &[0; 4096])], &[]))?;
    File::options().write(true).open(work.join("huge.raw"))?.set_len(1 << 30)?;
    Ok(words("image inspect huge.raw --cache cache"))
}
