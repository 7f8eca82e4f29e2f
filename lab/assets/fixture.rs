//! Small squashfs files for tests, made by a library other than the reader that is tested.

use std::io::Cursor;

use backhand::{
    FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Lz4},
};

/// A squashfs file with `files`, compressed with zstd.
pub(crate) fn squashfs(files: &[(&str, &[u8])]) -> Vec<u8> {
    squashfs_with(Compressor::Zstd, files)
}

/// A squashfs file with `files`.
pub(crate) fn squashfs_with(compressor: Compressor, files: &[(&str, &[u8])]) -> Vec<u8> {
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
