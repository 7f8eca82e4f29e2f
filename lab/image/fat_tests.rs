use std::io::Cursor;

use fatfs::FatType;
use lab_image_fixtures::fat;
use proptest::prelude::*;

use super::*;

const MIB: usize = 1 << 20;

fn listed(volume: &[u8], path: &str) -> Result<Option<Vec<FatEntry>>, FatError> {
    Fat::open(&mut Cursor::new(volume), 0, volume.len() as u64)?.list(path)
}

/// Returns every file below a directory with its content.
fn contents(volume: &[u8], path: &str) -> Result<Vec<(String, Vec<u8>)>, FatError> {
    let mut disk = Cursor::new(volume);
    let mut files = Fat::open(&mut disk, 0, volume.len() as u64)?;
    let mut found = Vec::new();
    for entry in files.list(path)?.unwrap_or_default().iter().filter(|entry| !entry.is_directory) {
        let mut content = Vec::new();
        files.copy(entry, &mut content)?;
        found.push((entry.name.clone(), content));
    }
    Ok(found)
}

#[test]
fn files_of_every_width_come_out_as_they_went_in() {
    let large: Vec<u8> = (0..100_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let files = [
        ("EFI/Linux/Talos-v1.11.5~1.efi", &large[..]),
        ("EFI/Linux/A.EFI", b"short".as_slice()),
        ("EFI/Linux/é of a long name.efi", b""),
        ("top", b"x"),
    ];
    for (kind, size) in [(FatType::Fat12, MIB), (FatType::Fat16, 8 * MIB), (FatType::Fat32, 40 * MIB)] {
        let volume = fat(kind, size, &files);
        let mut expected: Vec<_> =
            files[..3].iter().map(|(path, content)| (path[10..].to_owned(), content.to_vec())).collect();
        let mut found = contents(&volume, "/efi/LINUX").expect("read");
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{kind:?}");
        assert_eq!(contents(&volume, "").expect("root"), [("top".to_owned(), b"x".to_vec())]);
        assert_eq!(listed(&volume, "EFI/BOOT").expect("read"), None);
        assert_eq!(listed(&volume, "top").expect("read"), None, "a file is no directory");
    }
}

#[test]
fn a_file_system_within_a_disk_is_read_from_its_place() {
    let volume = fat(FatType::Fat12, MIB, &[("a.efi", b"content")]);
    let disk = [vec![0xff; 1536], volume.clone()].concat();
    let mut cursor = Cursor::new(&disk);
    let mut files = Fat::open(&mut cursor, 1536, volume.len() as u64).expect("open");
    let entry = files.list("").expect("list").expect("root").remove(0);
    let mut content = Vec::new();
    files.copy(&entry, &mut content).expect("copy");
    assert_eq!(content, b"content");
}

#[test]
fn what_cannot_be_is_told() {
    let volume = fat(FatType::Fat16, 8 * MIB, &[("dir/a.efi", &[7; 5000])]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = volume.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        contents(&changed, "dir").expect_err("damaged").to_string()
    };
    assert!(with(510, &[0]).starts_with("its first sector is not a boot sector; it is not a FAT"));
    assert!(with(11, &[0, 0]).starts_with("its boot sector says sectors of 0 bytes"));
    assert!(with(13, &[3]).contains("3 in a cluster"));
    assert!(with(16, &[9]).contains("9 tables"));
    assert!(with(22, &[1, 0]).contains("a table of 512 bytes"));
    let short = contents(&volume[..4 * MIB], "dir").expect_err("short").to_string();
    assert!(short.starts_with("it says it has 8388608 bytes, and its partition has 4194304"), "{short}");
    // The first table entry of the file: cluster 2 is the directory, cluster 3 the start of the file.
    let table = usize::from(u16::from_le_bytes([volume[14], volume[15]])) * 512;
    assert!(with(table + 6, &[1, 0]).starts_with("after cluster 3 comes 0x1, which is none"));
    assert!(with(table + 6, &[0xff, 0xff]).starts_with("the content of a.efi ends 4488 bytes early"));
    let size = volume.windows(4).position(|bytes| bytes == 5000_u32.to_le_bytes()).expect("its size");
    assert!(
        with(size, &[0xff; 4]).starts_with("a.efi says it has 4294967295 bytes, more than the file system")
    );
    assert!(with(table + 4, &[2, 0]).starts_with("a directory has more entries than there may be"));
}

proptest! {
    #[test]
    fn damage_and_truncation_end_without_a_panic(
        at in 0_usize..20_000, byte: u8, keep in 0_usize..80_000, cut: bool
    ) {
        let mut volume = fat(FatType::Fat12, 64 << 10, &[("EFI/Linux/Talos-v1.11.5.efi", &[7; 3000])]);
        volume[at] = byte;
        if cut {
            volume.truncate(keep);
        }
        let _ = contents(&volume, "EFI/Linux");
        let mut disk = Cursor::new(&volume);
        let _ = Fat::open(&mut disk, 0, u64::MAX).and_then(|mut files| files.list("EFI/Linux"));
    }
}
