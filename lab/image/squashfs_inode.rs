//! Parsers for inodes and directory entries of a squashfs file.
//!
//! Format: Linux fs/squashfs/squashfs_fs.h, `struct squashfs_*_inode` and `struct squashfs_dir_*`.

use super::squashfs::{SquashfsError, le32, le64, wrong};

/// Maximum number of entries per directory header (`SQUASHFS_DIR_COUNT`).
const HEADER_ENTRIES: u32 = 256;
/// Bytes in the directory size for the entries `.` and `..`, which are not stored.
const UNSTORED: u32 = 3;
/// Maximum directory size in bytes: some ten thousand entries.
const DIRECTORY_LIMIT: u32 = 4 << 20;
/// The longest target of a symbolic link in bytes (`PATH_MAX`, Linux include/uapi/linux/limits.h).
const TARGET_LIMIT: u32 = 4096;
/// The value for "no fragment".
const NO_FRAGMENT: u32 = u32::MAX;

/// The entries of a directory: name and inode reference.
pub(super) type Names = Vec<(String, u64)>;

/// A position in the metadata block stream of a table.
#[derive(Clone, Copy)]
pub(super) struct Cursor {
    /// Offset of the block, relative to the table.
    pub block: u64,
    /// Offset in the unpacked block.
    pub offset: usize,
}

/// The parsed inode types.
pub(super) enum Inode {
    Directory(Directory),
    File(File),
    /// A symbolic link, with its target.
    Link(String),
    /// A device, pipe or socket.
    Other,
}

pub(super) struct Directory {
    pub block: u64,
    pub offset: usize,
    pub inode: u32,
    pub inode_at: u64,
    /// Permission bits.
    pub mode: u16,
    size: u32,
}

/// A regular file.
#[derive(Clone)]
pub struct File {
    /// Content size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    pub(super) inode_at: u64,
    pub(super) start: u64,
    pub(super) fragment: Option<u32>,
    pub(super) fragment_offset: u32,
    pub(super) sizes: Cursor,
}

impl Inode {
    /// Reads an inode. Its metadata block is at byte `at`.
    pub(super) fn read(
        at: u64,
        cursor: &mut Cursor,
        mut take: impl FnMut(&mut Cursor, usize) -> Result<Vec<u8>, SquashfsError>,
    ) -> Result<Self, SquashfsError> {
        let head = take(cursor, 16)?;
        let inode = le32(&head, 12);
        let mode = (le32(&head, 0) >> 16) as u16;
        let half = |bytes: &[u8], at: usize| le32(bytes, at) & 0xffff;
        let some = |fragment| (fragment != NO_FRAGMENT).then_some(fragment);
        Ok(match half(&head, 0) {
            1 => {
                let body = take(cursor, 16)?;
                let (size, offset) = (half(&body, 8), (le32(&body, 8) >> 16) as usize);
                let block = le32(&body, 0).into();
                Self::Directory(Directory { block, offset, inode, inode_at: at, mode, size })
            }
            8 => {
                let body = take(cursor, 24)?;
                let offset = (le32(&body, 16) >> 16) as usize;
                let (size, block) = (le32(&body, 4), le32(&body, 8).into());
                Self::Directory(Directory { block, offset, inode, inode_at: at, mode, size })
            }
            2 => {
                let body = take(cursor, 16)?;
                Self::File(File {
                    size: le32(&body, 12).into(),
                    mode,
                    inode_at: at,
                    start: le32(&body, 0).into(),
                    fragment: some(le32(&body, 4)),
                    fragment_offset: le32(&body, 8),
                    sizes: *cursor,
                })
            }
            9 => {
                let body = take(cursor, 40)?;
                Self::File(File {
                    size: le64(&body, 8),
                    mode,
                    inode_at: at,
                    start: le64(&body, 0),
                    fragment: some(le32(&body, 28)),
                    fragment_offset: le32(&body, 32),
                    sizes: *cursor,
                })
            }
            3 | 10 => {
                let size = le32(&take(cursor, 8)?, 4);
                if size > TARGET_LIMIT {
                    return Err(wrong(at, format!("a symbolic link to a path of {size} bytes")));
                }
                Self::Link(String::from_utf8_lossy(&take(cursor, size as usize)?).into_owned())
            }
            4..=7 | 11..=14 => Self::Other,
            kind => return Err(wrong(at, format!("an inode of kind {kind}, which does not exist"))),
        })
    }
}

impl Directory {
    /// Reads the entries. `place` converts a cursor to an offset in the file.
    pub(super) fn list(
        &self,
        place: impl Fn(&Cursor) -> u64,
        mut take: impl FnMut(&mut Cursor, usize) -> Result<Vec<u8>, SquashfsError>,
    ) -> Result<Names, SquashfsError> {
        if self.size > DIRECTORY_LIMIT {
            return Err(wrong(self.inode_at, format!("a directory of {} bytes", self.size)));
        }
        let mut names = Names::new();
        let mut cursor = Cursor { block: self.block, offset: self.offset };
        let mut left = self.size.saturating_sub(UNSTORED);
        while left > 0 {
            let at = place(&cursor);
            let head = take(&mut cursor, 12)?;
            let (count, block) = (le32(&head, 0), u64::from(le32(&head, 4)));
            if count >= HEADER_ENTRIES {
                return Err(wrong(at, format!("a directory header for {count} + 1 entries")));
            }
            left = left.saturating_sub(12);
            for _ in 0..=count {
                let at = place(&cursor);
                let entry = take(&mut cursor, 8)?;
                let size = (le32(&entry, 4) >> 16) + 1;
                let name = take(&mut cursor, size as usize)?;
                if left < 8 + size {
                    return Err(wrong(at, "an entry goes beyond the end of its directory"));
                }
                left -= 8 + size;
                let offset = u64::from(le32(&entry, 0) & 0xffff);
                names.push((checked(name).map_err(|problem| wrong(at, problem))?, (block << 16) | offset));
            }
        }
        Ok(names)
    }
}

/// Checks that a name is a valid path component.
fn checked(name: Vec<u8>) -> Result<String, String> {
    if name.len() > 256
        || name == b"."
        || name == b".."
        || name.iter().any(|b| matches!(b, 0..32 | b'/' | 127))
    {
        return Err(format!("an entry named {:?}", String::from_utf8_lossy(&name[..name.len().min(64)])));
    }
    // Names that are not UTF-8 cannot match a requested name.
    Ok(String::from_utf8_lossy(&name).into_owned())
}
