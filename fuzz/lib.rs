//! What the fuzz targets do with their bytes, one function each.
//!
//! The readers come from the crates below `lab/`. Those of `lab-cluster` are few and do not need the rest of the crate,
//! while the crate needs a client of Kubernetes: they are compiled from their sources.

pub mod gate;
pub mod machine;
pub mod network;
pub mod oci;
pub mod registry;
pub mod report;
pub mod tailnet;
pub mod talos;

use std::io::{Cursor, Read as _};

use lab_image::{
    Archives, Checksums, Choice, Compression, DiskImage, Extension, Initramfs, LayerContents, ServiceSpec,
    Squashfs, UnifiedImage, raw_kernel, unpacked,
};
use lab_model::{Digest, yaml};

/// An unpacked cpio stream; every content is read.
pub fn archive(data: &[u8]) {
    let mut archives = Archives::new(data, 1 << 20);
    while archives.peek().is_ok_and(|head| !head.is_empty()) {
        let read = archives.read(|entry, content| {
            assert!(!entry.name.split('/').any(|part| part == ".."), "a name leads out");
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            assert!(bytes.len() as u64 <= entry.size, "more content than its size");
            Ok(())
        });
        if read.is_err() {
            return;
        }
    }
}

/// An initramfs file. The first byte says how the rest is packed, for random bytes rarely are a
/// stream of a compression: 0 and above as it is, 1 zstd, 2 xz, 3 gzip, 4 a plain archive before
/// a zstd stream.
pub fn initramfs(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let mut packed = Vec::new();
    let written = match kind {
        1 => zstd::Encoder::new(&mut packed, 1).and_then(|encoder| copy(data, encoder.auto_finish())),
        2 => copy(data, liblzma::write::XzEncoder::new(&mut packed, 0)),
        3 => copy(data, flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast())),
        4 => {
            let (first, second) = data.split_at(data.len() / 2);
            packed.extend(first);
            zstd::Encoder::new(&mut packed, 1).and_then(|encoder| copy(second, encoder.auto_finish()))
        }
        _ => {
            packed.extend(data);
            Ok(())
        }
    };
    written.expect("packing into memory");
    if let Ok(read) = Initramfs::read(&packed[..]) {
        assert_eq!(read.digest, Digest::of_bytes(&packed), "not all of the file was read");
        assert_eq!(read.packed, packed.len() as u64);
    }
}

fn copy(mut data: &[u8], mut to: impl std::io::Write) -> std::io::Result<()> {
    std::io::copy(&mut data, &mut to).map(drop)
}

/// A squashfs layer: what an inspection looks for, and every file that can be reached.
pub fn squashfs(data: &[u8]) {
    let _ = LayerContents::read("0.sqsh", Cursor::new(data));
    let Ok(mut squashfs) = Squashfs::open(Cursor::new(data)) else {
        return;
    };
    let Ok(files) = squashfs.files_under("") else {
        return;
    };
    for (path, file) in files.iter().take(64) {
        assert!(!path.split('/').any(|part| part == ".."), "a path leads out");
        if let Ok(content) = squashfs.read(file, 1 << 20) {
            assert_eq!(content.len() as u64, file.size, "a file of another size than it says");
        }
    }
}

/// A list of extensions.
pub fn extensions(data: &[u8]) {
    if let Ok(extensions) = Extension::parse(data) {
        assert!(extensions.iter().all(|extension| !extension.name.is_empty()), "an extension without a name");
    }
}

/// The spec of an extension service.
pub fn service_spec(data: &[u8]) {
    if let Ok(spec) = ServiceSpec::parse(data) {
        let service = spec.service("x");
        let waits = service.depends.iter().any(|depends| depends == "configuration");
        assert!(waits || !service.needs_configuration, "a dependency is not told");
    }
}

/// A checksum file, of a directory or of one file.
pub fn checksums(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let _ = Checksums::of_one_file(text, "vmlinuz");
    let Ok(checksums) = Checksums::parse(text) else {
        return;
    };
    for path in checksums.paths() {
        assert!(!path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path} leads out");
        let _ = checksums.verify(path, &Digest::of_bytes(data));
    }
}

/// A kernel file.
pub fn kernel(data: &[u8]) {
    if let Ok(raw) = raw_kernel(data) {
        assert_eq!(raw.get(0x38..0x3c), Some(&b"ARM\x64"[..]), "no arm64 Image");
    }
}

/// A unified kernel image: each section lies within the file.
pub fn unified(data: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, data).expect("write");
    let Ok(image) = UnifiedImage::open(file.path()) else {
        return;
    };
    for part in [&image.kernel, &image.initramfs] {
        let size = part.section.as_ref().map_or(0, |section| section.size);
        let read = part.open().and_then(|mut part| std::io::copy(&mut part, &mut std::io::sink()));
        assert_eq!(read.expect("read"), size, "a section reaches beyond the file");
    }
}

/// A stream in any compression, of which the legacy form of lz4 is read by the tool itself.
pub fn packed(data: &[u8]) {
    if let Ok(stream) = unpacked(Compression::detect(data), data) {
        let _ = std::io::copy(&mut stream.take(32 << 20), &mut std::io::sink());
    }
}

/// A disk image, as it is unpacked. The checksums of its partition table are made right: whoever
/// lies can compute them.
pub fn disk(data: &[u8]) {
    let mut disk = data.to_vec();
    let word = |at: usize| {
        disk.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    let (start, count, size) = (word(584) as usize, word(592) as usize, word(596) as usize);
    let table =
        start.saturating_mul(512)..start.saturating_mul(512).saturating_add(count.saturating_mul(size));
    let sum = |bytes: &[u8]| {
        let mut sum = flate2::Crc::new();
        sum.update(bytes);
        sum.sum().to_le_bytes()
    };
    if let (Some(sum), true) = (disk.get(table).map(sum), disk.len() >= 604) {
        disk[600..604].copy_from_slice(&sum);
    }
    if disk.len() >= 604 {
        disk[528..532].fill(0);
        let sum = sum(&disk[512..604]);
        disk[528..532].copy_from_slice(&sum);
    }
    let mut unified = Vec::new();
    if let Ok(choice) = DiskImage::read(Cursor::new(&disk)).and_then(|image| image.take_unified(&mut unified))
    {
        assert!(unified.len() <= disk.len(), "{} is more than the disk holds", choice.name);
        assert!(!choice.name.contains(char::is_control), "a control character in {:?}", choice.name);
    }
}

/// The text of a `loader.conf`, a zero, and the names of boot entries, a line each.
pub fn boot_entries(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (loader, names) = text.split_once('\0').unwrap_or(("", &text));
    let names: Vec<_> = names.lines().map(str::to_owned).collect();
    let count = names.len();
    match Choice::among(names.clone(), loader) {
        None => assert_eq!(count, 0),
        Some(choice) => {
            assert!(names.contains(&choice.name), "a name that was not there");
            assert_eq!(choice.others.len() + 1, count, "a name was lost");
        }
    }
}

/// A machine config: every node has a place in the text.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(documents) = yaml::documents(text) else {
        return;
    };
    // In YAML a carriage return alone ends a line, too.
    let lines = data.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count() + 1;
    assert!(documents.iter().all(|node| node.position.line <= lines), "a place behind the end");
}
