use std::io::Cursor;

use backhand::compression::Compressor;
use lab_image_fixtures as fixture;
use proptest::prelude::*;

use super::{super::contents::LayerContents, *};

const SPEC: &[u8] = b"name: x\ndepends: [{service: cri}]\n";

/// Content larger than a block, so that the file has blocks and a fragment.
fn large() -> Vec<u8> {
    (0..300_000u32).flat_map(|number| (number / 3).to_le_bytes()).take(300_000).collect()
}

fn whole(compressor: Compressor) -> Vec<u8> {
    let files: [(&str, &[u8]); 4] = [
        ("etc/os-release", b"PRETTY_NAME=x\n"),
        ("usr/lib/modules/1/a.ko", &large()),
        ("usr/lib/modules/1/empty.ko", b""),
        ("usr/local/etc/containers/x.yaml", SPEC),
    ];
    fixture::squashfs_with(compressor, &files)
}

/// Reads all files in `bytes`.
fn walk(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, SquashfsError> {
    let mut squashfs = Squashfs::open(Cursor::new(bytes))?;
    let files = squashfs.files_under("")?;
    files.into_iter().map(|(path, file)| Ok((path, squashfs.read(&file, 1 << 20)?))).collect()
}

/// Returns the table offset in the superblock.
fn table(bytes: &[u8], at: usize) -> usize {
    le64(bytes, at) as usize
}

#[test]
fn every_compression_gives_the_files_that_went_in() {
    for compressor in [Compressor::Gzip, Compressor::Xz, Compressor::Lz4, Compressor::Zstd] {
        let files = walk(&whole(compressor)).expect("walk");
        let names: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        let expected = [
            "etc/os-release",
            "usr/lib/modules/1/a.ko",
            "usr/lib/modules/1/empty.ko",
            "usr/local/etc/containers/x.yaml",
        ];
        assert_eq!(names, expected, "{compressor:?}");
        assert_eq!(files[1].1, large());
        assert_eq!((files[2].1.len(), &files[3].1[..]), (0, SPEC));
    }
}

#[test]
fn what_is_not_there_is_nothing() {
    let bytes = whole(Compressor::Zstd);
    let mut squashfs = Squashfs::open(Cursor::new(&bytes)).expect("open");
    assert!(squashfs.files_under("usr/share").expect("files").is_empty());
    assert_eq!(squashfs.read_path("etc", 10).expect("a directory"), None);
    let error = squashfs.read_path("etc/os-release", 3).expect_err("limit").to_string();
    assert!(error.ends_with("a file says it has 14 bytes; 3 are read at most"), "{error}");
}

#[test]
fn a_truncated_file_and_a_false_superblock_are_told_with_their_place() {
    let bytes = whole(Compressor::Zstd);
    let error = |bytes: &[u8]| walk(bytes).expect_err("damaged").to_string();
    assert!(error(&bytes[..50]).starts_with("at byte 0: the superblock: "));
    assert!(error(&bytes[..bytes.len() / 2]).starts_with("at byte 40: it says it has "));
    assert!(error(b"root file system").starts_with("at byte 0: "));
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    assert_eq!(
        error(&changed(4, &[0xff; 4])),
        "at byte 4: it says it has 4294967295 inodes; no node image has that many"
    );
    assert!(error(&changed(12, &[1, 2, 3, 0])).starts_with("at byte 12: a block size of 197121"));
    assert!(error(&changed(64, &[0xff; 8])).starts_with("at byte 64: its inode table lies behind"));
    assert!(error(&changed(20, &[9])).starts_with("at byte 20: compression 9"));
}

#[test]
fn a_directory_within_itself_is_a_loop() {
    // Tables without compression: an inode table with a root directory. Its only entry is the directory
    // itself.
    let mut bytes = vec![0; 96];
    let inode: Vec<u8> =
        [&[1u8, 0][..], &[0; 10], &1u32.to_le_bytes(), &0u32.to_le_bytes(), &2u32.to_le_bytes()].concat();
    let size = 12 + 8 + 4 + 3u16;
    let inode = [inode, size.to_le_bytes().to_vec(), vec![0; 2], 1u32.to_le_bytes().to_vec()].concat();
    let entry = [&[0; 4][..], &1u16.to_le_bytes(), &3u16.to_le_bytes(), b"self"].concat();
    let listing = [&0u32.to_le_bytes()[..], &0u32.to_le_bytes(), &1u32.to_le_bytes(), &entry].concat();
    let (inodes, end) = (96u64, 96 + 2 + inode.len() as u64);
    for block in [&inode, &listing] {
        bytes.extend((block.len() as u16 | BLOCK_PLAIN).to_le_bytes());
        bytes.extend(block);
    }
    bytes[..4].copy_from_slice(b"hsqs");
    bytes[12..16].copy_from_slice(&4096u32.to_le_bytes());
    bytes[20] = 6;
    bytes[28] = 4;
    bytes[64..72].copy_from_slice(&inodes.to_le_bytes());
    bytes[72..80].copy_from_slice(&end.to_le_bytes());
    let error = walk(&bytes).expect_err("loop").to_string();
    assert_eq!(error, "at byte 96: the directory self is in two places: a loop");
}

#[test]
fn a_block_that_unpacks_to_more_than_a_block_is_refused() {
    let bytes = whole(Compressor::Gzip);
    let at = table(&bytes, 64);
    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    io::copy(&mut io::repeat(0).take(4 << 20), &mut bomb).expect("pack");
    let bomb = bomb.finish().expect("pack");
    let bytes = [&bytes[..at], &(bomb.len() as u16).to_le_bytes(), &bomb, &bytes[at..]].concat();
    let error = walk(&bytes).expect_err("bomb").to_string();
    assert!(error.starts_with(&format!("at byte {at}: a block of")), "{error}");
    assert!(error.ends_with("it gives more than 8192 bytes"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damage_ends_with_a_place_and_without_a_panic(
        kind in 0usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        tables: bool,
        keep in any::<prop::sample::Index>(), cut: bool,
    ) {
        static LAYERS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
            [Compressor::Gzip, Compressor::Xz, Compressor::Lz4, Compressor::Zstd].map(whole).into()
        });
        let mut bytes = LAYERS[kind].clone();
        // Half of the cases skip the data, which is the largest part.
        let (first, end) = if tables { (table(&bytes, 64), bytes.len()) } else { (0, bytes.len()) };
        for (at, byte) in changes {
            bytes[first + at.index(end - first)] = byte;
        }
        if cut {
            bytes.truncate(keep.index(end));
        }
        for error in [walk(&bytes).err().map(|e| e.to_string())].into_iter().flatten() {
            prop_assert!(error.starts_with("at byte "), "{}", error);
        }
        let _ = LayerContents::read("0.sqsh", Cursor::new(&bytes));
    }

    #[test]
    fn lies_in_a_superblock_end_without_a_panic(at in 4usize..96, lie in any::<u64>()) {
        static LAYER: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| whole(Compressor::Lz4));
        let mut bytes = LAYER.clone();
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        let _ = walk(&bytes);
    }
}
