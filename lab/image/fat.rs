//! Reads single files from a FAT file system. Reads only the requested data and treats it as untrusted.
//!
//! Format: Microsoft "FAT: General Overview of On-Disk Format" 1.03 (boot sector, table, directory entries,
//! long names). As in Linux (fs/fat/inode.c), the field `BPB_FATSz16` identifies FAT32, not the cluster
//! count. Disk images are untrusted input, so the reader checks every number against a limit before use.
//! General-purpose libraries also support writes, and their arithmetic trusts the boot sector and the
//! cluster chains.

use std::io::{self, Read, Seek, SeekFrom, Write};

/// A limit in bytes, above the table size of any EFI system partition.
const TABLE_LIMIT: u64 = 64 << 20;
/// Maximum directory size in FAT: 65,536 entries.
const DIRECTORY_LIMIT: u64 = 65_536 * ENTRY as u64;
/// Size of a directory entry in bytes.
const ENTRY: usize = 32;
/// The first data cluster.
const FIRST: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum FatError {
    /// The file system contains an impossible value.
    #[error("{0}; it is not a FAT file system, or it is damaged")]
    Damaged(String),
    /// The file system cannot be read, or the output cannot be written.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
}

fn damaged<T>(what: impl Into<String>) -> Result<T, FatError> {
    Err(FatError::Damaged(what.into()))
}

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FatEntry {
    /// The long name, or the short name if there is no long name.
    pub(super) name: String,
    pub(super) is_directory: bool,
    /// Content size in bytes; 0 for a directory.
    pub(super) size: u64,
    /// The first cluster; 0 for empty content.
    cluster: u32,
}

/// The width of table entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// The location of the root directory.
#[derive(Clone, Copy, Debug)]
enum Root {
    /// A fixed region of the given size in bytes, before the data.
    Fixed(u64),
    /// A cluster chain, as for other directories.
    Cluster(u32),
}

/// A FAT file system on a disk.
pub(super) struct Fat<'a, R> {
    disk: &'a mut R,
    width: Width,
    table: Vec<u8>,
    root: Root,
    /// The disk offset of the first cluster.
    data: u64,
    clusters: u32,
    cluster_size: u64,
}

impl<'a, R: Read + Seek> Fat<'a, R> {
    /// Reads the boot sector and the table of a file system. The partition has `size` bytes and begins at
    /// `start`.
    ///
    /// # Errors
    /// Returns an error if the data is not a FAT file system, or contains an impossible value.
    pub(super) fn open(disk: &'a mut R, start: u64, size: u64) -> Result<Self, FatError> {
        let mut boot = [0; 512];
        disk.seek(SeekFrom::Start(start))?;
        disk.read_exact(&mut boot)?;
        if boot[510..] != [0x55, 0xaa] {
            return damaged("its first sector is not a boot sector");
        }
        let word = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let long = |at: usize| word(at) | word(at + 2) << 16;
        let either = |short: u64, long: u64| if short == 0 { long } else { short };
        let (sector, per_cluster) = (word(11), u64::from(boot[13]));
        let (reserved, tables, root_entries) = (word(14), u64::from(boot[16]), word(17));
        let (total, table_size) = (either(word(19), long(32)) * sector, either(word(22), long(36)) * sector);
        let fits = matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables);
        if !fits {
            return damaged(format!(
                "its boot sector says sectors of {sector} bytes, {per_cluster} in a cluster, {tables} tables"
            ));
        }
        let tables_end = reserved * sector + tables * table_size;
        let root_size = (root_entries * ENTRY as u64).next_multiple_of(sector);
        let (data, cluster_size) = (tables_end + root_size, per_cluster * sector);
        if total > size {
            return damaged(format!("it says it has {total} bytes, and its partition has {size}"));
        }
        let clusters = total.saturating_sub(data) / cluster_size;
        let (width, bits, most) = match word(22) {
            0 => (Width::Fat32, 32, 0x0fff_fff5),
            _ if clusters < 4085 => (Width::Fat12, 12, 4085),
            _ => (Width::Fat16, 16, 65_525),
        };
        let table_bytes = ((clusters + u64::from(FIRST)) * bits).div_ceil(8);
        if clusters == 0 || clusters >= most || table_bytes > table_size.min(TABLE_LIMIT) {
            return damaged(format!("it says it has {clusters} clusters and a table of {table_size} bytes"));
        }
        // If mirroring is off, only one table is valid (`BPB_ExtFlags`).
        let flags = if width == Width::Fat32 { word(40) } else { 0 };
        let active = if flags & 0x80 == 0 { 0 } else { flags & 0xf };
        if active >= tables {
            return damaged(format!("it says that table {active} of {tables} is the true one"));
        }
        disk.seek(SeekFrom::Start(start + reserved * sector + active * table_size))?;
        let mut table = Vec::new();
        disk.take(table_bytes).read_to_end(&mut table)?;
        if (table.len() as u64) < table_bytes {
            return damaged("it ends within its table");
        }
        let root = match width {
            Width::Fat32 => Root::Cluster(long(44) as u32),
            _ => Root::Fixed(root_size),
        };
        Ok(Self { disk, width, table, root, data: start + data, clusters: clusters as u32, cluster_size })
    }

    /// Lists the directory at `path`. Separate names with `/`; case is ignored. Returns `None` if the
    /// directory does not exist.
    pub(super) fn list(&mut self, path: &str) -> Result<Option<Vec<FatEntry>>, FatError> {
        let mut entries = entries(&self.root_directory()?);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let found = entries.iter().find(|entry| entry.is_directory && entry.is_named(name));
            let Some(cluster) = found.map(|entry| entry.cluster) else { return Ok(None) };
            entries = self::entries(&self.directory(cluster)?);
        }
        Ok(Some(entries))
    }

    /// Writes the content of a file to `to`.
    pub(super) fn copy(&mut self, file: &FatEntry, to: &mut impl Write) -> Result<(), FatError> {
        // A circular cluster chain would never end.
        if file.size > u64::from(self.clusters) * self.cluster_size {
            return damaged(format!(
                "{} says it has {} bytes, more than the file system",
                file.name, file.size
            ));
        }
        let (mut left, mut next) = (file.size, Some(file.cluster));
        while left > 0 {
            let Some(first) = next else {
                return damaged(format!("the content of {} ends {left} bytes early", file.name));
            };
            // Read contiguous clusters together.
            let (mut last, mut length) = (first, self.cluster_size);
            next = self.following(first)?;
            while length < left && next == Some(last + 1) {
                last += 1;
                length += self.cluster_size;
                next = self.following(last)?;
            }
            let length = length.min(left);
            self.disk.seek(SeekFrom::Start(self.place(first)))?;
            if io::copy(&mut self.disk.take(length), to)? < length {
                return damaged(format!("it ends within {}", file.name));
            }
            left -= length;
        }
        Ok(())
    }

    fn root_directory(&mut self) -> Result<Vec<u8>, FatError> {
        match self.root {
            Root::Cluster(cluster) => self.directory(cluster),
            Root::Fixed(size) => {
                let mut bytes = Vec::new();
                self.disk.seek(SeekFrom::Start(self.data - size))?;
                self.disk.take(size).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }

    fn directory(&mut self, first: u32) -> Result<Vec<u8>, FatError> {
        let (mut bytes, mut next) = (Vec::new(), Some(first));
        while let Some(cluster) = next {
            if bytes.len() as u64 >= DIRECTORY_LIMIT {
                return damaged("a directory has more entries than there may be");
            }
            next = self.following(cluster)?;
            self.disk.seek(SeekFrom::Start(self.place(cluster)))?;
            if self.disk.take(self.cluster_size).read_to_end(&mut bytes)? as u64 != self.cluster_size {
                return damaged("it ends within a directory");
            }
        }
        Ok(bytes)
    }

    /// Returns the disk offset of a cluster that [`Fat::following`] has validated.
    fn place(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster.saturating_sub(FIRST)) * self.cluster_size
    }

    /// Returns the next cluster, or `None` for the last cluster.
    fn following(&self, cluster: u32) -> Result<Option<u32>, FatError> {
        let clusters = FIRST..self.clusters + FIRST;
        if !clusters.contains(&cluster) {
            return damaged(format!("a chain leads to cluster {cluster} of {}", self.clusters));
        }
        let at = cluster as usize;
        let word = |at: usize| match self.table.get(at..at + 2) {
            Some(&[low, high]) => u32::from(u16::from_le_bytes([low, high])),
            _ => 0,
        };
        let (value, end) = match self.width {
            Width::Fat12 => ((word(at + at / 2) >> (4 * (at % 2))) & 0xfff, 0xff8),
            Width::Fat16 => (word(2 * at), 0xfff8),
            // The upper four bits are not part of the cluster number.
            Width::Fat32 => ((word(4 * at) | word(4 * at + 2) << 16) & 0x0fff_ffff, 0x0fff_fff8),
        };
        match value {
            value if value >= end => Ok(None),
            value if clusters.contains(&value) => Ok(Some(value)),
            value => damaged(format!("after cluster {cluster} comes {value:#x}, which is none")),
        }
    }
}

impl FatEntry {
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Parses the entries of a directory.
fn entries(directory: &[u8]) -> Vec<FatEntry> {
    let mut found = Vec::new();
    let mut long = LongName::default();
    for raw in directory.chunks_exact(ENTRY) {
        let attributes = raw[11];
        match raw[0] {
            0 => break,
            0xe5 => long = LongName::default(),
            _ if attributes & 0x3f == 0x0f => long.take(raw),
            // The volume label.
            _ if attributes & 0x08 != 0 => long = LongName::default(),
            _ => {
                let name = std::mem::take(&mut long).of(raw).unwrap_or_else(|| short_name(raw));
                let word = |at: usize| u32::from(u16::from_le_bytes([raw[at], raw[at + 1]]));
                let is_directory = attributes & 0x10 != 0;
                let size = if is_directory { 0 } else { u64::from(word(28) | word(30) << 16) };
                let entry = FatEntry { name, is_directory, size, cluster: word(20) << 16 | word(26) };
                // Reject control characters in names, because they would reach a terminal.
                if ![".", ".."].contains(&entry.name.as_str()) && !entry.name.contains(char::is_control) {
                    found.push(entry);
                }
            }
        }
    }
    found
}

/// A long name. Its parts precede the directory entry, last part first.
#[derive(Default)]
struct LongName {
    /// The name in UTF-16.
    text: Vec<u16>,
    /// The number of the next part; 0 if the name is complete or absent.
    next: u8,
    checksum: u8,
}

impl LongName {
    /// Characters per part.
    const PART: usize = 13;

    fn take(&mut self, raw: &[u8]) {
        let number = raw[0] & 0x1f;
        if raw[0] & 0x40 != 0 {
            *self = Self { text: Vec::new(), next: number, checksum: raw[13] };
        }
        if number == 0 || number != self.next || raw[13] != self.checksum {
            *self = Self::default();
            return;
        }
        let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain((28..32).step_by(2));
        let part: Vec<u16> = places.map(|at| u16::from_le_bytes([raw[at], raw[at + 1]])).collect();
        debug_assert_eq!(part.len(), Self::PART);
        self.text.splice(..0, part);
        self.next -= 1;
    }

    /// Returns the name if it is complete and belongs to this entry.
    fn of(self, raw: &[u8]) -> Option<String> {
        let checksum = raw[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.text.is_empty() || self.next != 0 || self.checksum != checksum {
            return None;
        }
        let text = self.text.split(|unit| *unit == 0).next().unwrap_or_default();
        Some(String::from_utf16_lossy(text))
    }
}

/// Returns the short name: eight characters, a dot and three characters.
fn short_name(raw: &[u8]) -> String {
    let part = |bytes: &[u8], lower: bool| {
        let text: String =
            bytes.iter().map(|byte| if byte.is_ascii() { *byte as char } else { '?' }).collect();
        let text = text.trim_end();
        if lower { text.to_ascii_lowercase() } else { text.to_owned() }
    };
    // Windows NT and Linux use byte 12 to mark name parts for display in lower case.
    let (name, ending) = (part(&raw[..8], raw[12] & 8 != 0), part(&raw[8..11], raw[12] & 16 != 0));
    if ending.is_empty() { name } else { format!("{name}.{ending}") }
}

#[cfg(test)]
#[path = "fat_tests.rs"]
mod tests;
