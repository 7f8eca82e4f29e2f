//! The disk of a node: a sparse file with the one partition that makes Talos consider itself
//! installed.

use std::{
    fs::OpenOptions,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use gpt::{GptConfig, disk::LogicalBlockSize, mbr::ProtectiveMBR, partition_types};

/// Size of the META partition, bytes. Talos accepts a disk as its own if it has a GPT partition with
/// the label `META` and exactly this size; the content does not matter (`pkg/machinery/constants`:
/// `MetaPartitionLabel`, `internal/pkg/partition`: `MetaSize`).
pub const META_SIZE: u64 = 1_048_576;

/// Start of the first partition, in sectors of 512 bytes: 1 MiB, the usual alignment.
const ALIGNMENT: u64 = 2048;

/// The reason why a disk could not be created.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file cannot be written.
    #[error("cannot write the disk image {}; check free space and permissions", path.display())]
    File {
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The partition table cannot be written.
    #[error("cannot partition the disk image {} of {size} bytes; it needs at least 4 MiB", path.display())]
    Table {
        path: PathBuf,
        /// Size of the file in bytes.
        size: u64,
        /// The error of the partitioner.
        source: gpt::GptError,
    },
    /// The disk has no usable partition with this label.
    #[error("the disk image {} has no usable partition {name}", path.display())]
    Partition { path: PathBuf, name: &'static str },
}

/// Creates a sparse raw disk of `size` bytes at `path`, with a GPT and an empty `META` partition.
/// Replaces an existing file. The node creates its other partitions itself.
///
/// # Errors
/// Fails if the file cannot be written or is too small for the table.
pub fn make_disk(path: &Path, size: u64) -> Result<(), DiskError> {
    let file_error = |source| DiskError::File { path: path.to_owned(), source };
    let table_error = |source: gpt::GptError| DiskError::Table { path: path.to_owned(), size, source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        // The disk holds the keys of the cluster.
        .mode(0o600)
        .open(path)
        .map_err(file_error)?;
    file.set_len(size).map_err(file_error)?;

    let last_sector = u32::try_from((size / 512).saturating_sub(1)).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(last_sector)
        .overwrite_lba0(&mut file)
        .map_err(|source| DiskError::File { path: path.to_owned(), source: io::Error::other(source) })?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(file, None)
        .map_err(table_error)?;
    table
        .add_partition("META", META_SIZE, partition_types::LINUX_FS, 0, Some(ALIGNMENT))
        .map_err(table_error)?;
    table.write().map_err(table_error)?;
    Ok(())
}

/// Writes zeros over the partition with the label `name`. The guest wrote the partition table, so nothing outside of the
/// disk is written, whatever it says.
///
/// # Errors
/// Fails if the disk has no valid table, no such partition, or cannot be written.
pub fn clear_partition(path: &Path, name: &'static str) -> Result<(), DiskError> {
    let file_error = |source| DiskError::File { path: path.to_owned(), source };
    let missing = || DiskError::Partition { path: path.to_owned(), name };
    let table = GptConfig::new().open(path);
    let size = std::fs::metadata(path).map_err(file_error)?.len();
    let table = table.map_err(|source| DiskError::Table { path: path.to_owned(), size, source })?;
    let partition =
        table.partitions().values().find(|partition| partition.name == name).ok_or_else(missing)?;
    let start = partition.bytes_start(LogicalBlockSize::Lb512).map_err(|_| missing())?;
    let length = partition.bytes_len(LogicalBlockSize::Lb512).map_err(|_| missing())?;
    if start.checked_add(length).is_none_or(|end| end > size) {
        return Err(missing());
    }
    let mut file = OpenOptions::new().write(true).open(path).map_err(file_error)?;
    file.seek(SeekFrom::Start(start)).map_err(file_error)?;
    io::copy(&mut io::repeat(0).take(length), &mut file).map_err(file_error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn the_disk_is_sparse_and_has_a_meta_partition_of_one_mebibyte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        let size = 6 * 1024 * 1024 * 1024;
        make_disk(&path, size).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), size);
        assert!(metadata.blocks() * 512 < 1024 * 1024, "{} bytes are allocated", metadata.blocks() * 512);

        let table = GptConfig::new().open(&path).unwrap();
        let partitions: Vec<_> = table.partitions().values().collect();
        assert_eq!(partitions.len(), 1);
        assert_eq!(partitions[0].name, "META");
        assert_eq!(partitions[0].bytes_len(LogicalBlockSize::Lb512).unwrap(), META_SIZE);
        assert_eq!(partitions[0].first_lba, ALIGNMENT);
    }

    #[test]
    fn a_partition_is_cleared_and_nothing_around_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        make_disk(&path, 16 << 20).unwrap();
        let start = ALIGNMENT * 512;
        let bytes = std::fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[7; 512], start).unwrap();
        file.write_all_at(&[7; 512], start + META_SIZE - 512).unwrap();
        file.write_all_at(&[9; 512], start + META_SIZE).unwrap();
        clear_partition(&path, "META").unwrap();
        let mut expected = bytes;
        let after = usize::try_from(start + META_SIZE).unwrap();
        expected[after..after + 512].fill(9);
        assert!(std::fs::read(&path).unwrap() == expected);
        let error = clear_partition(&path, "STATE").unwrap_err().to_string();
        assert!(error.ends_with("disk.raw has no usable partition STATE"), "{error}");
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(clear_partition(&path, "META").is_err(), "no table");
    }

    #[test]
    fn a_disk_without_room_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(make_disk(&directory.path().join("small"), 1024 * 1024).is_err());
    }
}
