//! Raw disk images, as a person writes them to a disk: a GUID partition table, and in the EFI system
//! partition what boots.
//!
//! Formats: UEFI specification 2.10, chapters 5 (GUID partition table) and 13.3 (the EFI system
//! partition is FAT). Talos from 1.10 on boots arm64 with systemd-boot, from a unified kernel image
//! in `EFI/Linux/` (internal/app/machined/pkg/runtime/v1alpha1/bootloader/sdboot). Before, it booted
//! with GRUB, kernel and initramfs being on XFS in a partition labelled BOOT.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use gpt::{disk::LogicalBlockSize, header, partition, partition_types};

use super::{
    boot_entries::Choice,
    compression::{Compression, decompress, unpacked},
    fat::{Fat, FatEntry, FatError},
    kernel_error::KernelError,
};

/// Larger than any disk image of a node, unpacked, in bytes; those of clouds have 8 GiB.
const DISK_LIMIT: u64 = 16 << 30;
/// More than any unified kernel image has, in bytes.
const UNIFIED_LIMIT: u64 = 1 << 30;
/// More than any `loader.conf` has, in bytes.
const LOADER_LIMIT: u64 = 64 << 10;
/// More partitions than any table of an image has room for.
const PARTITIONS_LIMIT: u32 = 1024;
/// Where a table's header stands when sectors have 512 bytes, and when they have 4096.
const SECTORS: [LogicalBlockSize; 2] = [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096];
/// What a table's header begins with.
const SIGNATURE: &[u8] = b"EFI PART";
/// Where Talos and others put unified kernel images.
const UNIFIED: &str = "EFI/Linux";

/// Why a disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskImageError {
    /// It cannot be read, or not unpacked.
    #[error("it cannot be read: {0}; fetch it again if it is truncated")]
    Read(#[from] io::Error),
    /// Its partition table is damaged.
    #[error("its partition table is damaged: {0}; fetch it again")]
    Table(String),
    /// It ends before its partitions do.
    #[error(
        "it has {found} bytes, and its partition table is one of a disk of {said}; it is truncated: fetch it again"
    )]
    Truncated {
        /// What is there.
        found: u64,
        /// What should be.
        said: u64,
    },
    /// Nothing that EFI could boot.
    #[error("it has no EFI system partition, only {partitions}; {}", INSTEAD)]
    NoSystemPartition {
        /// The labels of those it has.
        partitions: String,
    },
    /// The EFI system partition cannot be read.
    #[error("its EFI system partition: {0}")]
    FileSystem(#[from] FatError),
    /// It boots some other way.
    #[error(
        "its EFI system partition has no unified kernel image ({UNIFIED}/*.efi) but {programs}; its partitions \
         are {partitions}{grub}; {}",
        INSTEAD
    )]
    NoUnifiedImage {
        /// What the EFI system partition has to boot with.
        programs: String,
        /// The labels of the partitions.
        partitions: String,
        /// What that means, when it is known.
        grub: &'static str,
    },
    /// It boots another machine.
    #[error(
        "it is for {found} ({program} in its EFI system partition), and the lab boots arm64: take the arm64 build"
    )]
    Architecture {
        /// Which machine.
        found: &'static str,
        /// What shows it.
        program: String,
    },
    /// Its unified kernel image cannot be used.
    #[error("{name} in its EFI system partition: {source}")]
    Unified {
        /// The name of its file.
        name: String,
        /// What is wrong with it.
        source: KernelError,
    },
}

/// What will do in place of a disk image without a unified kernel image.
const INSTEAD: &str = "name the kernel and initramfs of the same build (kernel-arm64 beside initramfs-metal-arm64.xz), its \
     installer image, or its unified kernel image (metal-arm64-uki.efi)";
/// What a partition of XFS that is labelled BOOT means.
const GRUB: &str =
    ": it boots with GRUB, as Talos before 1.10 did, from a file system that the lab does not read";

/// Whether a file is a disk image, compressed or not, by its content.
///
/// # Errors
/// When its first bytes cannot be read or unpacked.
pub(super) fn is_disk_image(file: &Path) -> io::Result<bool> {
    let mut input = BufReader::new(File::open(file)?);
    let compression = Compression::detect(input.fill_buf()?);
    let mut head = Vec::new();
    unpacked(compression, input)?.take(4096 + SIGNATURE.len() as u64).read_to_end(&mut head)?;
    Ok(SECTORS.iter().any(|sector| head.get(sector.as_usize()..).is_some_and(|at| at.starts_with(SIGNATURE))))
}

/// Writes the unified kernel image that the disk image `file` boots to `to`, and tells which it is.
/// A compressed one is unpacked in the directory `scratch` meanwhile, as a sparse file.
///
/// # Errors
/// See [`DiskImageError`].
pub(super) fn take_unified(
    file: &Path,
    scratch: &Path,
    to: &mut impl Write,
) -> Result<Choice, DiskImageError> {
    let mut input = BufReader::with_capacity(1 << 20, File::open(file)?);
    let compression = Compression::detect(input.fill_buf()?);
    if compression == Compression::Uncompressed {
        return DiskImage::read(input.into_inner())?.take_unified(to);
    }
    let mut disk = Sparse { file: tempfile::tempfile_in(scratch)?, length: 0 };
    decompress(compression, input, &mut disk, DISK_LIMIT)?;
    disk.file.set_len(disk.length)?;
    DiskImage::read(disk.file)?.take_unified(to)
}

/// A disk and its partitions.
pub struct DiskImage<R> {
    disk: R,
    partitions: Vec<Partition>,
}

struct Partition {
    label: String,
    is_system: bool,
    is_xfs: bool,
    /// Where it begins, and how long it is, in bytes.
    start: u64,
    size: u64,
}

impl<R: Read + Seek> DiskImage<R> {
    /// Reads the partition table of `disk`, as it is unpacked.
    ///
    /// # Errors
    /// When there is none, it is damaged, or the disk is shorter than it says.
    pub fn read(mut disk: R) -> Result<Self, DiskImageError> {
        let damaged = |why: String| DiskImageError::Table(why);
        let length = disk.seek(SeekFrom::End(0))?;
        let sector = SECTORS.into_iter().find(|sector| begins_with(&mut disk, sector.as_u64(), SIGNATURE));
        let sector = sector.ok_or_else(|| damaged("it has none".to_owned()))?;
        let table = header::read_header_from_arbitrary_device(&mut disk, sector)
            .map_err(|error| damaged(error.to_string()))?;
        // The library takes the first for granted and would believe any of the second.
        if table.part_size != 128 || table.num_parts > PARTITIONS_LIMIT {
            return Err(damaged(format!("{} entries of {} bytes", table.num_parts, table.part_size)));
        }
        // The last sector of a disk has a copy of the header.
        let said = table.backup_lba.saturating_add(1).saturating_mul(sector.as_u64());
        if said > length {
            return Err(DiskImageError::Truncated { found: length, said });
        }
        let entries = partition::file_read_partitions(&mut disk, &table, sector)
            .map_err(|error| damaged(error.to_string()))?;
        let mut partitions = Vec::new();
        for entry in entries.into_values() {
            let place = entry.bytes_start(sector).and_then(|start| Ok((start, entry.bytes_len(sector)?)));
            let (start, size) = place.map_err(|error| damaged(format!("{}: {error}", entry.name)))?;
            if start.checked_add(size).is_none_or(|end| end > length) {
                return Err(damaged(format!("the partition {} lies beyond the end", entry.name)));
            }
            let is_system = entry.part_type_guid.guid == partition_types::EFI.guid;
            let is_xfs = begins_with(&mut disk, start, b"XFSB");
            partitions.push(Partition { label: entry.name, is_system, is_xfs, start, size });
        }
        Ok(Self { disk, partitions })
    }

    /// Writes the unified kernel image that it boots to `to`, and tells which it is.
    ///
    /// # Errors
    /// See [`DiskImageError`].
    pub fn take_unified(mut self, to: &mut impl Write) -> Result<Choice, DiskImageError> {
        let Some(system) = self.partitions.iter().find(|partition| partition.is_system) else {
            return Err(DiskImageError::NoSystemPartition { partitions: self.labels() });
        };
        let (start, size) = (system.start, system.size);
        let mut files = Fat::open(&mut self.disk, start, size)?;
        let images = programs(files.list(UNIFIED)?.unwrap_or_default());
        let loader = match files
            .list("loader")?
            .unwrap_or_default()
            .iter()
            .find(|file| file.is_named("loader.conf"))
        {
            Some(file) if file.size <= LOADER_LIMIT => {
                let mut text = Vec::new();
                files.copy(file, &mut text)?;
                String::from_utf8_lossy(&text).into_owned()
            }
            _ => String::new(),
        };
        let names = images.iter().map(|image| image.name.clone()).collect();
        let Some(choice) = Choice::among(names, &loader) else {
            let programs = programs(files.list("EFI/BOOT")?.unwrap_or_default());
            return Err(self.without_unified(&programs));
        };
        let image = images.iter().find(|image| image.name == choice.name);
        if let Some(image) = image {
            if image.size > UNIFIED_LIMIT {
                let source = KernelError::NotUnified { why: format!("it says it has {} bytes", image.size) };
                return Err(DiskImageError::Unified { name: choice.name, source });
            }
            files.copy(image, to)?;
        }
        Ok(choice)
    }

    /// Why it is no disk image that the lab boots, by the boot programs that it has instead.
    fn without_unified(&self, programs: &[FatEntry]) -> DiskImageError {
        // Names of boot programs by machine (UEFI specification 2.10, 3.5.1.1).
        let has = |name: &str| programs.iter().any(|program| program.is_named(name));
        if has("BOOTX64.EFI") && !has("BOOTAA64.EFI") {
            return DiskImageError::Architecture {
                found: "amd64",
                program: "EFI/BOOT/BOOTX64.EFI".to_owned(),
            };
        }
        let names: Vec<_> = programs.iter().map(|program| format!("EFI/BOOT/{}", program.name)).collect();
        let is_grub = self.partitions.iter().any(|partition| partition.label == "BOOT" && partition.is_xfs);
        DiskImageError::NoUnifiedImage {
            programs: if names.is_empty() { "nothing in EFI/BOOT".to_owned() } else { names.join(", ") },
            partitions: self.labels(),
            grub: if is_grub { GRUB } else { "" },
        }
    }

    fn labels(&self) -> String {
        let label = |partition: &Partition| {
            let name = if partition.label.is_empty() { "one without a label" } else { &partition.label };
            format!("{}{}", name.escape_debug(), if partition.is_xfs { " (XFS)" } else { "" })
        };
        let labels: Vec<_> = self.partitions.iter().map(label).collect();
        if labels.is_empty() { "none".to_owned() } else { labels.join(", ") }
    }
}

/// The EFI programs among files.
fn programs(mut files: Vec<FatEntry>) -> Vec<FatEntry> {
    files.retain(|file| !file.is_directory && file.name.to_ascii_lowercase().ends_with(".efi"));
    files
}

/// Whether there is `magic` on a disk at a place.
fn begins_with(disk: &mut (impl Read + Seek), at: u64, magic: &[u8]) -> bool {
    let mut head = vec![0; magic.len()];
    disk.seek(SeekFrom::Start(at)).and_then(|_| disk.read_exact(&mut head)).is_ok() && head == magic
}

/// A file in which zeros take no room.
struct Sparse {
    file: File,
    length: u64,
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        static ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        let bytes = &bytes[..bytes.len().min(ZEROS.len())];
        if bytes == &ZEROS[..bytes.len()] {
            self.file.seek(SeekFrom::Current(bytes.len() as i64))?;
        } else {
            self.file.write_all(bytes)?;
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
#[path = "disk_image_tests.rs"]
mod tests;
