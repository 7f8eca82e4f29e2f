//! Reads single files from a squashfs 4.0 file. Reads only the requested data and treats it as untrusted.
//!
//! Format: Linux fs/squashfs/squashfs_fs.h. Image layers are untrusted input, so the reader checks every
//! number against a limit before use. It is iterative, visits each directory once, and reports the offset
//! of an error. General-purpose libraries read complete inode tables first, recurse through directories,
//! and do not limit their decompressors. Hostile layers exploit this behavior.

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom},
    rc::Rc,
};

use super::squashfs_inode::{Cursor, Directory, File, Inode, Names};

/// Unpacked size of a metadata block in bytes.
const METADATA_BLOCK: usize = 8192;
/// Maximum number of visited entries per reader: about a hundred times the number in a node image.
const ENTRIES_LIMIT: usize = 200_000;
/// Maximum number of unpacked metadata blocks per reader (512 MiB in total).
const BLOCKS_LIMIT: usize = 65_536;
/// Number of cached metadata blocks, unpacked (2 MiB).
const CACHED_BLOCKS: usize = 256;
/// Flag of an uncompressed metadata block.
const BLOCK_PLAIN: u16 = 1 << 15;
/// Flag of an uncompressed data block.
const DATA_PLAIN: u32 = 1 << 24;
/// A limit above the inode count of any node image.
const INODES_LIMIT: u32 = 4_000_000;

/// A squashfs error with its offset in the file.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {problem}")]
pub struct SquashfsError {
    /// Offset in the file.
    pub offset: u64,
    pub problem: String,
}

pub(super) fn wrong(offset: u64, problem: impl Into<String>) -> SquashfsError {
    SquashfsError { offset, problem: problem.into() }
}

/// An open squashfs file.
pub struct Squashfs<R> {
    input: R,
    length: u64,
    compressor: u16,
    block_size: u32,
    fragments: u32,
    root: u64,
    inode_table: u64,
    pub(super) directory_table: u64,
    fragment_table: u64,
    blocks: BTreeMap<u64, (Rc<Vec<u8>>, u64)>,
    unpacked_blocks: usize,
    /// The last unpacked fragment block: small files that follow each other share one.
    last_fragment: Option<(u32, u64, Rc<Vec<u8>>)>,
    entries: usize,
}

impl<R: Read + Seek> Squashfs<R> {
    /// Reads the superblock of `input`.
    ///
    /// # Errors
    /// Returns an error if the file is not squashfs 4.0, or contains impossible values.
    pub fn open(mut input: R) -> Result<Self, SquashfsError> {
        let read = |error: io::Error| wrong(0, format!("the superblock: {error}"));
        let length = input.seek(SeekFrom::End(0)).map_err(read)?;
        input.rewind().map_err(read)?;
        let mut head = [0; 96];
        input.read_exact(&mut head).map_err(read)?;
        let (word, long) = (|at| le32(&head, at), |at| le64(&head, at));
        let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        if !head.starts_with(b"hsqs") {
            return Err(wrong(0, format!("no squashfs superblock (hsqs) but {:02x?}", &head[..4])));
        }
        if (half(28), half(30)) != (4, 0) {
            return Err(wrong(28, format!("squashfs version {}.{}; 4.0 is read", half(28), half(30))));
        }
        if word(4) > INODES_LIMIT {
            return Err(wrong(4, format!("it says it has {} inodes; no node image has that many", word(4))));
        }
        let block_size = word(12);
        if !block_size.is_power_of_two() || !(4096..=1 << 20).contains(&block_size) {
            return Err(wrong(
                12,
                format!("a block size of {block_size}; a power of 2, 4 KiB to 1 MiB, is one"),
            ));
        }
        if long(40) > length {
            let problem = format!("it says it has {} bytes and has {length}; it is truncated", long(40));
            return Err(wrong(40, problem));
        }
        for (at, name) in [(64, "inode"), (72, "directory")] {
            if long(at) > length {
                return Err(wrong(at as u64, format!("its {name} table lies behind its end ({length})")));
            }
        }
        Ok(Self {
            length,
            compressor: half(20),
            block_size,
            fragments: word(16),
            root: long(32),
            inode_table: long(64),
            directory_table: long(72),
            fragment_table: long(80),
            blocks: BTreeMap::new(),
            unpacked_blocks: 0,
            last_fragment: None,
            entries: 0,
            input,
        })
    }

    /// Reads the regular file `path`, at most `limit` bytes. Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// Returns the same errors as [`Squashfs::read`].
    pub fn read_path(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, SquashfsError> {
        match self.find(path)? {
            Some(Inode::File(file)) => self.read(&file, limit).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads the content of a file, at most `limit` bytes.
    ///
    /// # Errors
    /// Returns an error if the file is larger, or if its blocks are damaged.
    pub fn read(&mut self, file: &File, limit: u64) -> Result<Vec<u8>, SquashfsError> {
        let mut content = Vec::new();
        self.each_block(file, limit, &mut |block| content.extend_from_slice(block))?;
        Ok(content)
    }

    /// Passes the content of a file, at most `limit` bytes, to `take`, in blocks of at most 1 MiB.
    ///
    /// # Errors
    /// Like [`Squashfs::read`].
    pub fn each_block(
        &mut self,
        file: &File,
        limit: u64,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SquashfsError> {
        if file.size > limit {
            let problem = format!("a file says it has {} bytes; {limit} are read at most", file.size);
            return Err(wrong(file.inode_at, problem));
        }
        let block_size = u64::from(self.block_size);
        let tail = if file.fragment.is_some() { file.size % block_size } else { 0 };
        let mut read = 0;
        let mut at = file.start;
        let mut sizes = file.sizes;
        while read < file.size - tail {
            let here = self.table_position(self.inode_table, sizes);
            let size = le32(&self.take(&mut sizes, self.inode_table, 4)?, 0);
            let want = block_size.min(file.size - tail - read);
            let packed = u64::from(size & (DATA_PLAIN - 1));
            if size >= DATA_PLAIN << 1 || packed > block_size {
                return Err(wrong(here, format!("a data block of {packed} bytes in blocks of {block_size}")));
            }
            read += want;
            if packed == 0 {
                take(&vec![0; want as usize]);
                continue;
            }
            let block = self.data(at, packed, size & DATA_PLAIN != 0)?;
            if block.len() as u64 != want {
                let problem = format!("a block unpacks to {} bytes and should to {want}", block.len());
                return Err(wrong(at, problem));
            }
            take(&block);
            at += packed;
        }
        if let (Some(fragment), true) = (file.fragment, tail > 0) {
            let (start, block) = self.fragment(fragment)?;
            let from = file.fragment_offset as usize;
            let part = from.checked_add(tail as usize).and_then(|end| block.get(from..end));
            take(part.ok_or_else(|| {
                wrong(start, format!("a file's end at {from} of a fragment of {} bytes", block.len()))
            })?);
        }
        Ok(())
    }

    /// Reads the first block of a file.
    ///
    /// # Errors
    /// Returns the same errors as [`Squashfs::read`].
    pub fn head(&mut self, file: &File) -> Result<Vec<u8>, SquashfsError> {
        let block = u64::from(self.block_size);
        if file.size <= block {
            return self.read(file, block);
        }
        self.read(&File { size: block, fragment: None, ..file.clone() }, block)
    }

    /// Returns the inode of `path`, or `None` if it does not exist.
    pub(super) fn find(&mut self, path: &str) -> Result<Option<Inode>, SquashfsError> {
        let mut inode = self.inode(self.root)?;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let Inode::Directory(directory) = inode else {
                return Ok(None);
            };
            let entries = self.list(&directory)?;
            let Some((_, reference)) = entries.into_iter().find(|(name, _)| name == part) else {
                return Ok(None);
            };
            inode = self.inode(reference)?;
        }
        Ok(Some(inode))
    }

    pub(super) fn inode(&mut self, reference: u64) -> Result<Inode, SquashfsError> {
        let mut cursor = Cursor { block: reference >> 16, offset: (reference & 0xffff) as usize };
        let at = self.table_position(self.inode_table, cursor);
        let table = self.inode_table;
        Inode::read(at, &mut cursor, |cursor, bytes| self.take(cursor, table, bytes))
    }

    pub(super) fn list(&mut self, directory: &Directory) -> Result<Names, SquashfsError> {
        let table = self.directory_table;
        let names = directory.list(
            |cursor| table.saturating_add(cursor.block),
            |cursor, bytes| self.take(cursor, table, bytes),
        )?;
        self.entries += names.len();
        if self.entries > ENTRIES_LIMIT {
            return Err(wrong(
                table,
                format!("more than {ENTRIES_LIMIT} entries; no node image has that many"),
            ));
        }
        Ok(names)
    }

    /// Returns the fragment block `number` and its offset.
    fn fragment(&mut self, number: u32) -> Result<(u64, Rc<Vec<u8>>), SquashfsError> {
        if let Some((_, start, block)) = self.last_fragment.as_ref().filter(|(last, ..)| *last == number) {
            return Ok((*start, block.clone()));
        }
        if number >= self.fragments {
            let problem = format!("a file needs fragment {number} of {}", self.fragments);
            return Err(wrong(self.fragment_table, problem));
        }
        let pointer = self.fragment_table.saturating_add(u64::from(number) / 512 * 8);
        let block = le64(&self.bytes(pointer, 8)?, 0);
        let mut cursor = Cursor { block, offset: (number as usize % 512) * 16 };
        let entry = self.take(&mut cursor, 0, 16)?;
        let (start, size) = (le64(&entry, 0), le32(&entry, 8));
        let packed = u64::from(size & (DATA_PLAIN - 1));
        if size >= DATA_PLAIN << 1 || packed > u64::from(self.block_size) {
            return Err(wrong(
                block,
                format!("a fragment of {packed} bytes in blocks of {}", self.block_size),
            ));
        }
        let data = Rc::new(self.data(start, packed, size & DATA_PLAIN != 0)?);
        self.last_fragment = Some((number, start, data.clone()));
        Ok((start, data))
    }

    fn data(&mut self, at: u64, packed: u64, plain: bool) -> Result<Vec<u8>, SquashfsError> {
        let bytes = self.bytes(at, packed)?;
        if plain { Ok(bytes) } else { self.unpack(at, &bytes, self.block_size as usize) }
    }

    /// Reads `bytes` of a table's stream at `cursor`, and advances the cursor.
    fn take(&mut self, cursor: &mut Cursor, table: u64, bytes: usize) -> Result<Vec<u8>, SquashfsError> {
        let mut out = Vec::with_capacity(bytes.min(METADATA_BLOCK));
        while out.len() < bytes {
            let (block, next) = self.metadata(table.saturating_add(cursor.block))?;
            if cursor.offset >= block.len() {
                // An offset may equal the length of a full block, but not exceed it.
                if block.len() < METADATA_BLOCK || cursor.offset > block.len() {
                    let problem =
                        format!("byte {} is outside a block of {} bytes", cursor.offset, block.len());
                    return Err(wrong(table.saturating_add(cursor.block), problem));
                }
                *cursor = Cursor { block: next - table, offset: 0 };
                continue;
            }
            let rest = &block[cursor.offset..];
            let part = rest.len().min(bytes - out.len());
            out.extend(&rest[..part]);
            cursor.offset += part;
        }
        Ok(out)
    }

    /// Returns the unpacked metadata block at `at`, and the offset of the next block.
    fn metadata(&mut self, at: u64) -> Result<(Rc<Vec<u8>>, u64), SquashfsError> {
        if let Some((block, next)) = self.blocks.get(&at) {
            return Ok((block.clone(), *next));
        }
        self.unpacked_blocks += 1;
        if self.unpacked_blocks > BLOCKS_LIMIT {
            return Err(wrong(
                at,
                format!("more than {BLOCKS_LIMIT} metadata blocks; no node image needs them"),
            ));
        }
        let head = self.bytes(at, 2)?;
        let head = u16::from_le_bytes([head[0], head[1]]);
        let packed = u64::from(head & !BLOCK_PLAIN);
        if packed == 0 || packed > METADATA_BLOCK as u64 {
            return Err(wrong(
                at,
                format!("a metadata block of {packed} bytes; 1 to {METADATA_BLOCK} are possible"),
            ));
        }
        let bytes = self.bytes(at + 2, packed)?;
        let block = if head & BLOCK_PLAIN == 0 { self.unpack(at, &bytes, METADATA_BLOCK)? } else { bytes };
        if self.blocks.len() >= CACHED_BLOCKS {
            self.blocks.clear();
        }
        let entry = (Rc::new(block), at + 2 + packed);
        self.blocks.insert(at, entry.clone());
        Ok(entry)
    }

    fn bytes(&mut self, at: u64, count: u64) -> Result<Vec<u8>, SquashfsError> {
        if at.checked_add(count).is_none_or(|end| end > self.length) {
            let problem = format!("{count} bytes should be here, and the file has {}", self.length);
            return Err(wrong(at, problem));
        }
        let mut bytes = vec![0; count as usize];
        let read = self.input.seek(SeekFrom::Start(at)).and_then(|_| self.input.read_exact(&mut bytes));
        read.map_err(|error| wrong(at, error.to_string()))?;
        Ok(bytes)
    }

    /// Decompresses `packed` to at most `limit` bytes (1 MiB at most).
    fn unpack(&self, at: u64, packed: &[u8], limit: usize) -> Result<Vec<u8>, SquashfsError> {
        let unpacked = match self.compressor {
            1 => read_up_to(flate2::read::ZlibDecoder::new(packed), limit),
            4 => liblzma::stream::Stream::new_stream_decoder(64 << 20, 0).map_err(io::Error::other).and_then(
                |stream| read_up_to(liblzma::bufread::XzDecoder::new_stream(packed, stream), limit),
            ),
            5 => {
                let mut out = vec![0; limit];
                lz4_flex::block::decompress_into(packed, &mut out).map_err(io::Error::other).map(|size| {
                    out.truncate(size);
                    out
                })
            }
            6 => zstd::bulk::decompress(packed, limit),
            other => {
                let names = "1 (gzip), 4 (xz), 5 (lz4) and 6 (zstd) are read";
                return Err(wrong(20, format!("compression {other}; {names}")));
            }
        };
        unpacked
            .map_err(|error| wrong(at, format!("a block of {} bytes does not unpack: {error}", packed.len())))
    }

    fn table_position(&self, table: u64, cursor: Cursor) -> u64 {
        table.saturating_add(cursor.block)
    }
}

fn read_up_to(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut out)?;
    if out.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it gives more than {limit} bytes")));
    }
    Ok(out)
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
#[path = "squashfs_tests.rs"]
mod tests;
