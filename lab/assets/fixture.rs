//! Small images for tests; their squashfs files are made by a library other than the reader that is
//! tested.

use std::io::{Cursor, Read};

use backhand::{
    FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Lz4},
};

/// Names and contents of files.
pub(crate) type Files<'a> = [(&'a str, &'a [u8])];

/// A squashfs file with `files`, compressed with zstd.
pub(crate) fn squashfs(files: &Files<'_>) -> Vec<u8> {
    squashfs_with(Compressor::Zstd, files)
}

/// A squashfs file with `files`.
pub(crate) fn squashfs_with(compressor: Compressor, files: &Files<'_>) -> Vec<u8> {
    let mut writer = FilesystemWriter::default();
    // Of the compressions only lz4 must say how.
    let options =
        (compressor == Compressor::Lz4).then_some(CompressionOptions::Lz4(Lz4 { version: 1, flags: 0 }));
    writer.set_compressor(FilesystemCompressor::new(compressor, options).expect("compressor"));
    let header = NodeHeader { permissions: 0o755, ..NodeHeader::default() };
    for (path, content) in files {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !folder.is_empty() {
            writer.push_dir_all(folder, header).expect("folder");
        }
        writer.push_file(Cursor::new(content.to_vec()), path, header).expect("file");
    }
    let mut out = Cursor::new(Vec::new());
    writer.write(&mut out).expect("write");
    out.into_inner()
}

/// A kernel that is one by its header and its banner only.
pub(crate) fn kernel() -> Vec<u8> {
    let mut kernel = vec![0; 0x100];
    kernel[0x38..0x3c].copy_from_slice(b"ARM\x64");
    kernel.extend(b"Linux version 6.12.5-talos (builder@) #1 SMP\0");
    kernel
}

/// An uncompressed cpio archive of `files`.
pub(crate) fn archive(files: &Files<'_>) -> Vec<u8> {
    let inputs = files
        .iter()
        .map(|(name, content)| (cpio::NewcBuilder::new(name).mode(0o100_644), Cursor::new(content.to_vec())));
    cpio::write_cpio(inputs, Vec::new()).expect("archive")
}

/// An initramfs with a layer for each extension, which holds these files, compressed with zstd.
pub(crate) fn initramfs(extensions: &[(&str, &Files<'_>)]) -> Vec<u8> {
    let mut manifest = "layers:\n".to_owned();
    let mut files: Vec<(String, Vec<u8>)> = vec![("rootfs.sqsh".into(), squashfs(&[]))];
    for (number, (name, content)) in extensions.iter().enumerate() {
        manifest += &format!("- {{image: {number}.sqsh, metadata: {{name: {name}, version: v1}}}}\n");
        files.push((format!("{number}.sqsh"), squashfs(content)));
    }
    files.push(("extensions.yaml".into(), manifest.into_bytes()));
    let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    zstd::encode_all(&archive(&files)[..], 1).expect("encode")
}

/// A PE file of `machine` with these sections and nothing to run.
pub(crate) fn pe(machine: u16, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = b"MZ".to_vec();
    file.resize(0x3c, 0);
    file.extend(0x40u32.to_le_bytes());
    file.extend(b"PE\0\0");
    file.extend(machine.to_le_bytes());
    file.extend((sections.len() as u16).to_le_bytes());
    file.extend([0; 12]);
    file.extend(240u16.to_le_bytes());
    file.extend(0x22u16.to_le_bytes());
    let mut optional = vec![0; 240];
    optional[..2].copy_from_slice(&0x20bu16.to_le_bytes());
    optional[108..112].copy_from_slice(&16u32.to_le_bytes());
    file.extend(optional);
    let mut at = (file.len() + 40 * sections.len()).next_multiple_of(512);
    let mut content = Vec::new();
    for (name, bytes) in sections {
        let stored = bytes.len().next_multiple_of(512);
        let mut header = name.as_bytes().to_vec();
        header.resize(8, 0);
        for field in [bytes.len(), at, stored, at] {
            header.extend((field as u32).to_le_bytes());
        }
        header.resize(40, 0);
        file.extend(header);
        content.extend_from_slice(bytes);
        content.resize(content.len().next_multiple_of(512), 0);
        at += stored;
    }
    file.resize(file.len().next_multiple_of(512), 0);
    file.extend(content);
    file
}

/// A FAT file system of `size` bytes with `files`.
pub(crate) fn fat(kind: fatfs::FatType, size: usize, files: &Files<'_>) -> Vec<u8> {
    let mut volume = vec![0; size];
    let options =
        fatfs::FormatVolumeOptions::new().fat_type(kind).bytes_per_cluster(512).max_root_dir_entries(32);
    fatfs::format_volume(Cursor::new(&mut volume), options).expect("format");
    let system =
        fatfs::FileSystem::new(Cursor::new(&mut volume), fatfs::FsOptions::new()).expect("file system");
    for (path, content) in files {
        for (end, _) in path.match_indices('/') {
            system.root_dir().create_dir(&path[..end]).expect("directory");
        }
        let mut file = system.root_dir().create_file(path).expect("file");
        std::io::Write::write_all(&mut file, content).expect("write");
    }
    system.unmount().expect("unmount");
    volume
}

/// A raw disk image with `files` in its EFI system partition, and further partitions by label and
/// content.
pub(crate) fn disk(files: &Files<'_>, others: &Files<'_>) -> Vec<u8> {
    let room = files.iter().map(|(_, content)| content.len() + 4096).sum::<usize>();
    // More than that is more clusters than FAT12 can number.
    let (kind, tables) = if room < 1 << 20 {
        (fatfs::FatType::Fat12, 8 << 10)
    } else {
        (fatfs::FatType::Fat32, room / 32 + (1 << 20))
    };
    let system = fat(kind, (room + tables).next_multiple_of(8 << 10), files);
    partitioned(&[&[("EFI", &system[..])], others].concat())
}

/// A disk with a partition for each label and content; the one labelled EFI is of that type.
pub(crate) fn partitioned(partitions: &Files<'_>) -> Vec<u8> {
    const SECTOR: usize = 512;
    let sectors = |content: &[u8]| content.len().div_ceil(SECTOR).max(1);
    // Both tables take 33 sectors each, and the first sector is that of PCs of old.
    let size = 2 * 34 + partitions.iter().map(|(_, content)| sectors(content) + 1).sum::<usize>();
    let disk = Cursor::new(vec![0; size * SECTOR]);
    let mut table = gpt::GptConfig::new().writable(true).create_from_device(disk, None).expect("table");
    let mut places = Vec::new();
    for (label, content) in partitions {
        let kind = if *label == "EFI" { gpt::partition_types::EFI } else { gpt::partition_types::LINUX_FS };
        let bytes = (sectors(content) * SECTOR) as u64;
        let number = table.add_partition(label, bytes, kind, 0, None).expect("partition");
        places.push(table.partitions()[&number].first_lba as usize * SECTOR);
    }
    let mut disk = table.write().expect("write").into_inner();
    for ((_, content), place) in partitions.iter().zip(places) {
        disk[place..place + content.len()].copy_from_slice(content);
    }
    disk
}

/// `data` as gzip packs it.
pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(data, flate2::Compression::fast()).read_to_end(&mut packed).expect("encode");
    packed
}

/// `data` as xz packs it.
pub(crate) fn xz(data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    liblzma::read::XzEncoder::new(data, 0).read_to_end(&mut packed).expect("encode");
    packed
}
