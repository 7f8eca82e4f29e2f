//! Copies large sparse files, computes checksums to detect damage, and measures the space that is left.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

/// Block size for reads, skips and writes. A block of zeros counts as a hole, even where the file system has
/// no hole.
const BLOCK: usize = 64 << 10;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A checksum against accidental damage only; the store belongs to its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Length in bytes, holes included.
    pub length: u64,
    /// CRC-32 (IEEE) over the blocks that are not all zero, each with its offset.
    pub crc32: u32,
}

/// The checksum of a file.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn sum_of(path: &Path) -> io::Result<Sum> {
    let mut file = File::open(path)?;
    blocks(&mut file, |_, _| Ok(()))
}

/// Copies a file. Shares its blocks if the file system supports it, otherwise writes only nonzero blocks.
/// Only the owner can access the copy.
///
/// # Errors
/// When either file fails; the file at `to` is then incomplete.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<Sum> {
    if reflink_copy::reflink(from, to).is_ok() {
        return sum_of(to);
    }
    let mut source = File::open(from)?;
    let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let sum = blocks(&mut source, |at, block| {
        copy.seek(SeekFrom::Start(at))?;
        copy.write_all(block)
    })?;
    copy.set_len(sum.length)?;
    Ok(sum)
}

/// Passes each block that is not all zero to `each` with its offset, and returns the checksum.
fn blocks(file: &mut File, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<Sum> {
    let length = file.metadata()?.len();
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 16 * BLOCK];
    let mut at = 0;
    while let Some(extent) = next_extent(file, at, length)? {
        at = extent.start;
        file.seek(SeekFrom::Start(at))?;
        while at < extent.end {
            let wanted = usize::try_from(extent.end - at).unwrap_or(usize::MAX).min(buffer.len());
            file.read_exact(&mut buffer[..wanted])?;
            for block in buffer[..wanted].chunks(BLOCK) {
                if block != &ZEROS[..block.len()] {
                    hasher.update(&at.to_le_bytes());
                    hasher.update(block);
                    each(at, block)?;
                }
                at += block.len() as u64;
            }
        }
    }
    Ok(Sum { length, crc32: hasher.finalize() })
}

/// The next range after `at` that may hold data, in whole blocks.
fn next_extent(file: &File, at: u64, length: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    if at >= length {
        return Ok(None);
    }
    let Some((start, end)) = data_after(file, at)? else { return Ok(None) };
    let block = BLOCK as u64;
    let end = end.unwrap_or(length).div_ceil(block).saturating_mul(block).min(length);
    Ok(Some((start / block * block).max(at)..end))
}

/// The offset of the first data at or after `at`, and of the hole after it; `None` without data.
#[cfg(target_os = "linux")]
fn data_after(file: &File, at: u64) -> io::Result<Option<(u64, Option<u64>)>> {
    use nix::{
        errno::Errno,
        unistd::{Whence, lseek64},
    };
    let offset = |at: u64| i64::try_from(at).map_err(io::Error::other);
    let start = match lseek64(file, offset(at)?, Whence::SeekData) {
        Ok(start) => start,
        Err(Errno::ENXIO) => return Ok(None),
        // The file system does not support holes.
        Err(_) => return Ok(Some((at, None))),
    };
    let end = lseek64(file, start, Whence::SeekHole)?;
    Ok(Some((start.unsigned_abs(), Some(end.unsigned_abs()))))
}

/// Other systems read the whole file and detect zeros by content.
#[cfg(not(target_os = "linux"))]
fn data_after(_file: &File, at: u64) -> io::Result<Option<(u64, Option<u64>)>> {
    Ok(Some((at, None)))
}

/// The space that the file system of `path` has left, in bytes.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let file_system = nix::sys::statvfs::statvfs(path)?;
    // The types differ between operating systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "not everywhere")]
    Ok(file_system.blocks_available() as u64 * file_system.fragment_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;

    fn sparse(path: &Path) -> File {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).expect("create");
        file.set_len(300 << 20).expect("length");
        file.write_all_at(b"at the start", 0).expect("write");
        file.write_all_at(b"across blocks", (100 << 20) - 5).expect("write");
        file.write_all_at(b"the end", (300 << 20) - 7).expect("write");
        file
    }

    #[test]
    fn a_copy_is_equal_and_as_sparse() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        sparse(&from);
        let sum = copy(&from, &to).expect("copy");
        assert_eq!(sum, sum_of(&from).expect("sum"));
        assert_eq!(sum, sum_of(&to).expect("sum"));
        assert_eq!(std::fs::read(&from).expect("read"), std::fs::read(&to).expect("read"));
        let metadata = std::fs::metadata(&to).expect("metadata");
        assert!(metadata.blocks() * 512 < 1 << 20, "{} bytes are allocated", metadata.blocks() * 512);
    }

    #[test]
    fn zeros_that_are_written_change_no_sum_and_a_flipped_bit_does() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("file");
        let file = sparse(&path);
        let sum = sum_of(&path).expect("sum");
        file.write_all_at(&vec![0; 1 << 20], 50 << 20).expect("write");
        assert_eq!(sum_of(&path).expect("sum"), sum);
        file.write_all_at(&[1], 51 << 20).expect("write");
        assert_ne!(sum_of(&path).expect("sum"), sum);
        file.write_all_at(&[0], 51 << 20).expect("write");
        assert_eq!(sum_of(&path).expect("sum"), sum);
        file.set_len(299 << 20).expect("length");
        assert_ne!(sum_of(&path).expect("sum"), sum);
    }

    #[test]
    fn the_same_bytes_at_another_place_are_another_sum() {
        let directory = tempfile::tempdir().expect("tempdir");
        let sums = [1u64, 2].map(|block| {
            let path = directory.path().join(block.to_string());
            let file = OpenOptions::new().write(true).create_new(true).open(&path).expect("create");
            file.set_len(1 << 20).expect("length");
            file.write_all_at(b"data", block * BLOCK as u64).expect("write");
            sum_of(&path).expect("sum")
        });
        assert_ne!(sums[0], sums[1]);
    }
}
