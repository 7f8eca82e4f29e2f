use std::io::Cursor;

use lab_image_fixtures::{disk, fat, gzip, partitioned, xz};
use proptest::prelude::*;

use super::*;

/// Extracts the unified kernel image from a disk image.
fn taken(disk: &[u8]) -> Result<(String, Vec<u8>), DiskImageError> {
    let mut unified = Vec::new();
    let choice = DiskImage::read(Cursor::new(disk))?.take_unified(&mut unified)?;
    Ok((choice.to_string(), unified))
}

fn error(disk: &[u8]) -> String {
    taken(disk).expect_err("refused").to_string()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).expect("encode")
}

/// Detects and extracts a file with this content.
fn of_file(content: &[u8]) -> (io::Result<bool>, Result<Vec<u8>, DiskImageError>) {
    let directory = tempfile::tempdir().expect("tempdir");
    let file = directory.path().join("file");
    std::fs::write(&file, content).expect("write");
    let mut unified = Vec::new();
    let result = take_unified(&file, directory.path(), &mut unified);
    (is_disk_image(&file), result.map(|_| unified))
}

const TALOS: (&str, &[u8]) = ("EFI/Linux/Talos-v1.11.5.efi", b"the unified kernel image");
const SDBOOT: (&str, &[u8]) = ("EFI/boot/BOOTAA64.efi", b"systemd-boot");

#[test]
fn a_disk_image_is_known_and_read_in_every_compression() {
    let disk = disk(&[SDBOOT, TALOS], &[("META", &[0; 4096])]);
    for file in [disk.clone(), xz(&disk), zstd(&disk), gzip(&disk)] {
        let (known, unified) = of_file(&file);
        assert!(known.expect("known"));
        assert_eq!(unified.expect("taken"), TALOS.1);
    }
    assert!(!of_file(&xz(b"070701")).0.expect("an initramfs"), "an archive is no disk");
    assert!(!of_file(b"").0.expect("an empty file"), "nothing is no disk");
}

#[test]
fn an_image_unpacks_to_a_sparse_file() {
    use std::os::unix::fs::MetadataExt;
    let mut sparse = Sparse { file: tempfile::tempfile().expect("file"), length: 0 };
    let content = [vec![0; 40 << 20], b"end".to_vec(), vec![0; 9 << 20]].concat();
    decompress(Compression::Gzip, &gzip(&content)[..], &mut sparse, 1 << 30).expect("unpack");
    sparse.file.set_len(sparse.length).expect("set the length");
    let about = sparse.file.metadata().expect("stat");
    assert_eq!(about.len(), content.len() as u64);
    assert!(about.blocks() * 512 < 1 << 20, "{} bytes are allocated", about.blocks() * 512);
    let mut found = Vec::new();
    sparse.file.rewind().and_then(|()| sparse.file.read_to_end(&mut found)).expect("read");
    assert!(found == content, "other content");
}

#[test]
fn of_several_images_the_one_that_would_boot_is_taken() {
    let old = ("EFI/Linux/Talos-v1.11.4.efi", b"old".as_slice());
    let (text, unified) = taken(&disk(&[old, TALOS], &[])).expect("newest");
    let expected =
        "Talos-v1.11.5.efi in the EFI system partition (the newest; there is also Talos-v1.11.4.efi)";
    assert_eq!((text.as_str(), unified.as_slice()), (expected, TALOS.1));
    let loader = ("loader/loader.conf", b"timeout 10\ndefault talos-v1.11.4*\n".as_slice());
    let (text, unified) = taken(&disk(&[old, TALOS, loader], &[])).expect("default");
    assert_eq!(unified, b"old");
    assert!(text.contains("(the default of loader.conf; there is also Talos-v1.11.5.efi)"), "{text}");
}

#[test]
fn a_disk_image_of_grub_says_what_it_is_and_what_to_take() {
    let grub = ("EFI/BOOT/BOOTAA64.EFI", b"grub".as_slice());
    let text = error(&disk(&[grub], &[("BIOS", b""), ("BOOT", b"XFSB and more"), ("META", b"")]));
    let found = "has no unified kernel image (EFI/Linux/*.efi) but EFI/BOOT/BOOTAA64.EFI; its partitions are \
                 EFI, BIOS, BOOT (XFS), META: it boots with GRUB";
    assert!(text.contains(found), "{text}");
    assert!(text.ends_with("or its unified kernel image (metal-arm64-uki.efi)"), "{text}");
    // Without that partition, the cause is unknown.
    let text = error(&disk(&[("startup.nsh", b"")], &[("BOOT", b"ext4")]));
    assert!(
        text.contains("but nothing in EFI/BOOT; its partitions are EFI, BOOT; name the kernel"),
        "{text}"
    );
}

#[test]
fn a_disk_image_of_amd64_says_so() {
    let grub = ("EFI/BOOT/BOOTX64.EFI", b"grub".as_slice());
    let text = error(&disk(&[grub], &[]));
    assert!(text.starts_with("it is for amd64 (EFI/BOOT/BOOTX64.EFI in its EFI system partition)"), "{text}");
    // A disk image for both architectures is not rejected as a foreign image.
    assert!(error(&disk(&[grub, SDBOOT], &[])).contains("no unified kernel image"));
}

#[test]
fn a_disk_image_without_an_efi_system_partition_names_those_it_has() {
    let text = error(&partitioned(&[("BOOT", b"XFSB"), ("", b"x")]));
    assert!(
        text.contains("it has no EFI system partition, only BOOT (XFS), one without a label; name"),
        "{text}"
    );
    assert!(error(&partitioned(&[])).contains("only none"));
}

#[test]
fn an_efi_system_partition_without_fat_is_told() {
    let text = error(&partitioned(&[("EFI", &[1; 4096])]));
    assert!(text.starts_with("its EFI system partition: its first sector is not a boot sector"), "{text}");
}

#[test]
fn a_damaged_partition_table_is_told() {
    let whole = disk(&[TALOS], &[]);
    let with = |at: usize, byte: u8| {
        let mut damaged = whole.clone();
        damaged[at] = byte;
        error(&damaged)
    };
    assert!(with(512 + 72, 9).contains("its partition table is damaged: CRC32 Checksum Mismatch"));
    assert!(with(1024 + 56, b'X').contains("partition table CRC mismatch"));
    assert!(with(512, 0).contains("its partition table is damaged: it has none"));
}

#[test]
fn sizes_that_a_table_lies_about_are_refused() {
    let lie = |at: usize, bytes: &[u8]| {
        let mut disk = disk(&[TALOS], &[]);
        disk[512 + at..512 + at + bytes.len()].copy_from_slice(bytes);
        disk[512 + 16..512 + 20].fill(0);
        // The header checksum is valid, because an attacker can compute it.
        let mut sum = flate2::Crc::new();
        sum.update(&disk[512..512 + 92]);
        disk[512 + 16..512 + 20].copy_from_slice(&sum.sum().to_le_bytes());
        error(&disk)
    };
    assert!(lie(84, &256_u32.to_le_bytes()).contains("128 entries of 256 bytes"));
    assert!(lie(80, &u32::MAX.to_le_bytes()).contains("4294967295 entries of 128 bytes"));
    assert!(lie(32, &u64::MAX.to_le_bytes()).contains("it is truncated"));
    assert!(lie(72, &u64::MAX.to_le_bytes()).contains("its partition table is damaged"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_truncation_is_an_error(part in 0.0..1.0_f64, compression in 0_usize..4) {
        let disk = disk(&[TALOS], &[("META", &[0; 4096])]);
        let whole = match compression {
            0 => disk,
            1 => xz(&disk),
            2 => zstd(&disk),
            _ => gzip(&disk),
        };
        let cut = &whole[..(whole.len() as f64 * part) as usize];
        prop_assert!(of_file(cut).1.is_err(), "{} of {} bytes will do", cut.len(), whole.len());
    }

    #[test]
    fn damage_ends_without_a_panic(at in 0_usize..40_000, bytes: [u8; 4]) {
        let mut disk = disk(&[TALOS], &[("META", &[0; 4096])]);
        let at = at % (disk.len() - 4);
        disk[at..at + 4].copy_from_slice(&bytes);
        let _ = taken(&disk);
    }

    #[test]
    fn a_damaged_file_system_ends_without_a_panic(at in 0_usize..4096, byte: u8) {
        let mut system = fat(fatfs::FatType::Fat12, 64 << 10, &[TALOS]);
        system[at] = byte;
        let _ = taken(&partitioned(&[("EFI", &system)]));
    }
}
