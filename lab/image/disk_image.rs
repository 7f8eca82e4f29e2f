//! Raw disk images for installation on a disk. They contain a GUID partition table and an EFI system
//! partition with the boot files.
//!
//! Formats: UEFI specification 2.10, chapters 5 (GUID partition table) and 13.3 (the EFI system partition
//! is FAT). From version 1.10, Talos boots arm64 with systemd-boot from a unified kernel image in
//! `EFI/Linux/` (internal/app/machined/pkg/runtime/v1alpha1/bootloader/sdboot). Earlier versions boot with
//! GRUB, and store kernel and initramfs on an XFS partition labelled BOOT.

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

/// A limit in bytes, above the unpacked size of any node disk image; cloud images have 8 GiB.
pub(super) const DISK_LIMIT: u64 = 16 << 30;
/// A limit in bytes, above the size of any unified kernel image.
const UNIFIED_LIMIT: u64 = 1 << 30;
/// A limit in bytes, above the size of any `loader.conf`.
const LOADER_LIMIT: u64 = 64 << 10;
/// A limit above the partition count of any image.
const PARTITIONS_LIMIT: u32 = 1024;
/// A limit above the number of directories in an EFI system partition. A damaged one may contain itself.
const DIRECTORIES_LIMIT: usize = 1024;
/// The header position for sectors of 512 bytes and of 4096 bytes.
const SECTORS: [LogicalBlockSize; 2] = [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096];
/// The magic of a partition table header.
const SIGNATURE: &[u8] = b"EFI PART";
/// The standard directory for unified kernel images, used by Talos and other systems.
const UNIFIED: &str = "EFI/Linux";

/// The reason a disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskImageError {
    /// The disk image cannot be read or unpacked.
    #[error("it cannot be read: {0}; fetch it again if it is truncated")]
    Read(#[from] io::Error),
    /// The partition table is damaged.
    #[error("its partition table is damaged: {0}; fetch it again")]
    Table(String),
    /// The disk image ends before its last partition.
    #[error(
        "it has {found} bytes, and its partition table is one of a disk of {said}; it is truncated: fetch it again"
    )]
    Truncated {
        /// The actual size in bytes.
        found: u64,
        /// The size in the partition table.
        said: u64,
    },
    /// The disk image has no EFI system partition.
    #[error("it has no EFI system partition, only {partitions}; {}", INSTEAD)]
    NoSystemPartition {
        /// The labels of the existing partitions.
        partitions: String,
    },
    /// The EFI system partition cannot be read.
    #[error("its EFI system partition: {0}")]
    FileSystem(#[from] FatError),
    /// The disk image uses another boot method.
    #[error(
        "its EFI system partition has no unified kernel image ({UNIFIED}/*.efi) but {programs}; its partitions \
         are {partitions}{grub}; {}",
        INSTEAD
    )]
    NoUnifiedImage {
        /// The boot programs in the EFI system partition.
        programs: String,
        /// The partition labels.
        partitions: String,
        /// An explanation for GRUB images; otherwise empty.
        grub: &'static str,
    },
    /// The disk image is for another architecture.
    #[error(
        "it is for {found} ({program} in its EFI system partition), and the lab boots arm64: take the arm64 build"
    )]
    Architecture {
        found: &'static str,
        /// The boot program that indicates the architecture.
        program: String,
    },
    /// The unified kernel image is unusable.
    #[error("{name} in its EFI system partition: {source}")]
    Unified {
        /// The file name.
        name: String,
        source: KernelError,
    },
}

/// The alternatives to a disk image without a unified kernel image.
const INSTEAD: &str = "name the kernel and initramfs of the same build (kernel-arm64 beside initramfs-metal-arm64.xz), its \
     installer image, or its unified kernel image (metal-arm64-uki.efi)";
/// The explanation for an XFS partition labelled BOOT.
const GRUB: &str =
    ": it boots with GRUB, as Talos before 1.10 did, from a file system that the lab does not read";

/// Checks the content of a file for a disk image, compressed or uncompressed.
///
/// # Errors
/// Returns an error if the first bytes cannot be read or unpacked.
pub(super) fn is_disk_image(file: &Path) -> io::Result<bool> {
    let mut input = BufReader::new(File::open(file)?);
    let compression = Compression::detect(input.fill_buf()?);
    let mut head = Vec::new();
    unpacked(compression, input)?.take(4096 + SIGNATURE.len() as u64).read_to_end(&mut head)?;
    Ok(SECTORS.iter().any(|sector| head.get(sector.as_usize()..).is_some_and(|at| at.starts_with(SIGNATURE))))
}

/// Writes the default unified kernel image of the disk image `file` to `to`, and returns the boot entry.
/// Unpacks a compressed disk image to a temporary sparse file in the directory `scratch`.
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
    let mut disk = Sparse::new(tempfile::tempfile_in(scratch)?);
    decompress(compression, input, &mut disk, DISK_LIMIT)?;
    DiskImage::read(disk.finish()?)?.take_unified(to)
}

/// A disk with its partitions.
pub struct DiskImage<R> {
    disk: R,
    partitions: Vec<Partition>,
}

struct Partition {
    label: String,
    is_system: bool,
    is_xfs: bool,
    /// Start and length in bytes.
    start: u64,
    size: u64,
}

impl<R: Read + Seek> DiskImage<R> {
    /// Reads the partition table of the unpacked disk image `disk`.
    ///
    /// # Errors
    /// Returns an error if the table is missing or damaged, or if the disk is shorter than the table
    /// specifies.
    pub fn read(mut disk: R) -> Result<Self, DiskImageError> {
        let damaged = |why: String| DiskImageError::Table(why);
        let length = disk.seek(SeekFrom::End(0))?;
        let sector = SECTORS.into_iter().find(|sector| begins_with(&mut disk, sector.as_u64(), SIGNATURE));
        let sector = sector.ok_or_else(|| damaged("it has none".to_owned()))?;
        let table = header::read_header_from_arbitrary_device(&mut disk, sector)
            .map_err(|error| damaged(error.to_string()))?;
        // The library assumes the entry size and does not limit the entry count.
        if table.part_size != 128 || table.num_parts > PARTITIONS_LIMIT {
            return Err(damaged(format!("{} entries of {} bytes", table.num_parts, table.part_size)));
        }
        // The last sector of a disk contains a copy of the header.
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

    /// Writes the default unified kernel image to `to`, and returns the boot entry.
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

    /// Returns the files of the EFI system partition that `wanted` accepts by name, each of at most `limit` bytes, with
    /// their paths. `room` refuses a file before it is read. A disk without such a partition has none.
    ///
    /// # Errors
    /// Returns an error if the file system is damaged, or the error of `room`.
    pub(super) fn system_files(
        mut self,
        wanted: &dyn Fn(&str) -> bool,
        limit: u64,
        room: &mut dyn FnMut(&str, usize) -> io::Result<()>,
    ) -> Result<Vec<(String, Vec<u8>)>, DiskImageError> {
        let mut found = Vec::new();
        let Some(system) = self.partitions.iter().find(|partition| partition.is_system) else {
            return Ok(found);
        };
        let (start, size) = (system.start, system.size);
        let mut files = Fat::open(&mut self.disk, start, size)?;
        let mut waiting = vec![String::new()];
        let mut directories = 0;
        while let Some(directory) = waiting.pop() {
            directories += 1;
            if directories > DIRECTORIES_LIMIT {
                let why = format!("its EFI system partition has more than {DIRECTORIES_LIMIT} directories");
                return Err(io::Error::other(why).into());
            }
            for file in files.list(&directory)?.unwrap_or_default() {
                let path = if directory.is_empty() {
                    file.name.clone()
                } else {
                    format!("{directory}/{}", file.name)
                };
                if file.is_directory {
                    waiting.push(path);
                } else if wanted(&path) {
                    room(&path, usize::try_from(file.size.min(limit + 1)).unwrap_or(usize::MAX))?;
                    let mut content = Vec::new();
                    files.copy(&file, &mut content)?;
                    found.push((path, content));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Returns the reason the lab cannot boot the disk image, based on its boot programs.
    fn without_unified(&self, programs: &[FatEntry]) -> DiskImageError {
        // Names of boot programs by architecture (UEFI specification 2.10, 3.5.1.1).
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

/// Returns the EFI programs in a list of files.
fn programs(mut files: Vec<FatEntry>) -> Vec<FatEntry> {
    files.retain(|file| !file.is_directory && file.name.to_ascii_lowercase().ends_with(".efi"));
    files
}

/// Checks for `magic` at an offset of a disk.
fn begins_with(disk: &mut (impl Read + Seek), at: u64, magic: &[u8]) -> bool {
    let mut head = vec![0; magic.len()];
    disk.seek(SeekFrom::Start(at)).and_then(|_| disk.read_exact(&mut head)).is_ok() && head == magic
}

/// A writer that stores zeros as holes in a file.
pub(super) struct Sparse {
    file: File,
    length: u64,
}

impl Sparse {
    pub(super) fn new(file: File) -> Self {
        Self { file, length: 0 }
    }

    /// Returns the file in its full length.
    pub(super) fn finish(self) -> io::Result<File> {
        self.file.set_len(self.length)?;
        Ok(self.file)
    }
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
