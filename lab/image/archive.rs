//! A streaming reader for cpio archives in the `newc` format, as used in an initramfs.
//!
//! Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. A header is 110 bytes: the
//! magic `070701` (or `070702` with checksums) and thirteen fields of eight hexadecimal digits. Name and
//! content follow, each padded to four bytes. The name `TRAILER!!!` ends an archive. Images are untrusted
//! input, so the reader checks every header field against a limit before use.

use std::io::{self, BufRead, Read};

/// Length of a header in bytes.
const HEADER: usize = 110;
/// Maximum name length in the kernel (`PATH_MAX`).
const LONGEST_NAME: u64 = 4096;
/// Maximum number of entries across all archives of a stream; a node image has tens of entries.
const ENTRIES_LIMIT: u64 = 500_000;
/// Offsets of `c_filesize` and `c_namesize` in a header.
const FILE_SIZE_AT: usize = 6 + 6 * 8;
const NAME_SIZE_AT: usize = 6 + 11 * 8;
const MODE_AT: usize = 6 + 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// The path without a leading `./` or `/`.
    pub name: String,
    /// Content size in bytes.
    pub size: u64,
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Offset of the header in the unpacked stream.
    pub offset: u64,
}

/// An archive error, with its offset in the unpacked stream.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The data is not a header.
    #[error("at byte {offset}: no cpio header (070701…) but {found:?}")]
    Header {
        offset: u64,
        /// The first bytes at the offset.
        found: String,
    },
    /// The name in a header is not a valid file name.
    #[error("at byte {offset}: the entry's name {problem}")]
    Name {
        /// Offset of the header.
        offset: u64,
        problem: String,
    },
    /// The content exceeds the size limit.
    #[error("at byte {offset}: {name} says it has {size} bytes; no node image has more than {limit} in all")]
    TooLarge {
        /// Offset of the header.
        offset: u64,
        /// The name of the entry.
        name: String,
        /// The size in the header.
        size: u64,
        limit: u64,
    },
    /// The padding is endless, or the archive has too many entries.
    #[error("at byte {offset}: {what}; no node image has that much")]
    Endless {
        offset: u64,
        /// The item that exceeds the limit.
        what: String,
    },
    /// The stream ends inside an element.
    #[error("at byte {offset}: the archive ends within {within}; it is truncated")]
    Truncated {
        /// The end of the stream.
        offset: u64,
        /// The incomplete element.
        within: String,
    },
    /// The stream cannot be read or unpacked.
    #[error("at byte {offset}: {source}")]
    Read {
        /// Number of bytes read so far.
        offset: u64,
        source: io::Error,
    },
}

/// Reads consecutive archives from a stream.
pub struct Archives<R> {
    input: R,
    offset: u64,
    limit: u64,
    entries: u64,
}

impl<R: BufRead> Archives<R> {
    /// Creates a reader for at most `limit` bytes of `input`.
    pub fn new(input: R, limit: u64) -> Self {
        Self { input, offset: 0, limit, entries: 0 }
    }

    /// Returns the current offset in the stream.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the stream at its current position.
    pub fn into_input(self) -> R {
        self.input
    }

    /// Skips the zero bytes between archives and returns the next bytes. The slice is empty at the end.
    ///
    /// # Errors
    /// Returns an error if the stream cannot be read.
    pub fn peek(&mut self) -> Result<&[u8], ArchiveError> {
        loop {
            let offset = self.offset;
            let head = self.input.fill_buf().map_err(|source| ArchiveError::Read { offset, source })?;
            let zeros = head.iter().take_while(|byte| **byte == 0).count();
            let done = head.is_empty() || zeros < head.len();
            self.input.consume(zeros);
            self.offset += zeros as u64;
            if done {
                break;
            }
            if self.offset > self.limit {
                let what = format!("more than {} bytes", self.limit);
                return Err(ArchiveError::Endless { offset: self.offset, what });
            }
        }
        let offset = self.offset;
        self.input.fill_buf().map_err(|source| ArchiveError::Read { offset, source })
    }

    /// Reads one archive up to its trailer. Passes each entry with its content to `visit`, which may leave
    /// content unread.
    ///
    /// # Errors
    /// See [`ArchiveError`]. An error of `visit` becomes a read error.
    pub fn read(
        &mut self,
        mut visit: impl FnMut(&ArchiveEntry, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), ArchiveError> {
        while let Some(entry) = self.entry()? {
            let mut content = Counted { input: (&mut self.input).take(entry.size), read: 0 };
            let visited = visit(&entry, &mut content);
            let drained = visited.and_then(|()| io::copy(&mut content, &mut io::sink()));
            let read = content.read;
            self.offset += read;
            drained.map_err(|source| ArchiveError::Read { offset: self.offset, source })?;
            if read < entry.size {
                return Err(ArchiveError::Truncated { offset: self.offset, within: entry.name });
            }
            self.pad(&entry.name)?;
        }
        Ok(())
    }

    /// Reads the header and name of the next entry. Returns `None` at the trailer.
    fn entry(&mut self) -> Result<Option<ArchiveEntry>, ArchiveError> {
        let offset = self.offset;
        let header = self.take(HEADER as u64, "a header")?;
        let wrong = || ArchiveError::Header {
            offset,
            found: String::from_utf8_lossy(&header[..header.len().min(16)]).into_owned(),
        };
        if !header.starts_with(b"070701") && !header.starts_with(b"070702") {
            return Err(wrong());
        }
        let field = |at: usize| {
            let digits = header.get(at..at + 8).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or_else(wrong)
        };
        let (mode, size) = (field(MODE_AT)?, u64::from(field(FILE_SIZE_AT)?));
        let name = self.name(offset, u64::from(field(NAME_SIZE_AT)?))?;
        if name == "TRAILER!!!" {
            return Ok(None);
        }
        self.entries += 1;
        if self.entries > ENTRIES_LIMIT {
            return Err(ArchiveError::Endless { offset, what: format!("more than {ENTRIES_LIMIT} entries") });
        }
        if self.offset.saturating_add(size) > self.limit {
            return Err(ArchiveError::TooLarge { offset, name, size, limit: self.limit });
        }
        Ok(Some(ArchiveEntry { name, size, mode, offset }))
    }

    fn name(&mut self, offset: u64, length: u64) -> Result<String, ArchiveError> {
        let bad = |problem: String| ArchiveError::Name { offset, problem };
        if length == 0 || length > LONGEST_NAME {
            return Err(bad(format!("is {length} bytes long; 1 to {LONGEST_NAME} are possible")));
        }
        let bytes = self.take(length, "an entry's name")?;
        self.pad("an entry's name")?;
        let Some((0, name)) = bytes.split_last() else {
            return Err(bad("does not end with a zero".to_owned()));
        };
        let name = std::str::from_utf8(name).map_err(|_| bad("is not UTF-8".to_owned()))?;
        if name.contains(char::is_control) {
            return Err(bad(format!("{name:?} holds control characters")));
        }
        let name = name.trim_start_matches("./").trim_start_matches('/');
        if name.split('/').any(|part| part == "..") {
            return Err(bad(format!("{name:?} leads out of the archive")));
        }
        Ok(name.to_owned())
    }

    fn take(&mut self, length: u64, within: &str) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        let offset = self.offset;
        let read = (&mut self.input).take(length).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        read.map_err(|source| ArchiveError::Read { offset, source })?;
        if (bytes.len() as u64) < length {
            return Err(ArchiveError::Truncated { offset: self.offset, within: within.to_owned() });
        }
        Ok(bytes)
    }

    fn pad(&mut self, within: &str) -> Result<(), ArchiveError> {
        self.take((4 - self.offset % 4) % 4, within).map(drop)
    }
}

struct Counted<R> {
    input: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, size: u32, content: &[u8]) -> Vec<u8> {
        let mut out = format!(
            "070701{:08x}{:08x}{}{:08x}{}{:08x}{:08x}",
            1,
            0o100_644,
            "00000000".repeat(4),
            size,
            "00000000".repeat(4),
            name.len() + 1,
            0
        )
        .into_bytes();
        out.extend(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(content);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out: Vec<u8> =
            entries.iter().flat_map(|(name, content)| entry(name, content.len() as u32, content)).collect();
        out.extend(entry("TRAILER!!!", 0, b""));
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
        let mut archives = Archives::new(bytes, 1 << 20);
        let mut found = Vec::new();
        while !archives.peek()?.is_empty() {
            archives.read(|entry, content| {
                let mut bytes = Vec::new();
                content.read_to_end(&mut bytes)?;
                found.push((entry.name.clone(), bytes));
                Ok(())
            })?;
        }
        Ok(found)
    }

    #[test]
    fn archives_one_after_another_are_read_with_the_zeros_between() {
        let mut bytes = archive(&[("./init", b"#!"), ("a/b", b"")]);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(archive(&[("/rootfs.sqsh", b"hsqs1")]));
        let found = read(&bytes).expect("read");
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["init", "a/b", "rootfs.sqsh"]);
        assert_eq!(found[2].1, b"hsqs1");
    }

    #[test]
    fn a_lie_about_a_size_is_an_error_with_its_place() {
        let lie = entry("rootfs.sqsh", u32::MAX, b"short");
        let error = read(&lie).expect_err("too large").to_string();
        assert!(error.starts_with("at byte 0: rootfs.sqsh says it has 4294967295 bytes"), "{error}");
        let error = read(&entry("rootfs.sqsh", 100, b"short")).expect_err("short").to_string();
        assert!(error.contains("ends within rootfs.sqsh"), "{error}");
    }

    #[test]
    fn a_name_that_leads_out_is_refused() {
        let bytes = [archive(&[("init", b"x")]), archive(&[("a/../../etc/passwd", b"x")])].concat();
        let error = read(&bytes).expect_err("traversal").to_string();
        assert!(error.contains("leads out of the archive"), "{error}");
        assert!(error.starts_with("at byte 244:"), "{error}");
    }

    #[test]
    fn endless_zeros_and_endless_entries_are_refused() {
        let zeros = std::io::BufReader::new(std::io::repeat(0));
        let error = Archives::new(zeros, 1 << 20).peek().expect_err("zeros").to_string();
        assert!(error.ends_with("more than 1048576 bytes; no node image has that much"), "{error}");
        let empty = entry("a", 0, b"");
        let entries = empty.repeat((1 << 20) / empty.len() + 2);
        let error = read(&entries).expect_err("entries").to_string();
        assert!(error.contains("no node image has more than 1048576 in all"), "{error}");
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read_again(
            files in proptest::collection::vec(("[a-z]{1,12}(/[a-z]{1,9}){0,2}", proptest::collection::vec(any::<u8>(), 0..50)), 0..8)
        ) {
            let entries: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
            prop_assert_eq!(read(&archive(&entries)).expect("read"), files);
        }

        #[test]
        fn damage_and_truncation_end_without_a_panic(
            at in 0usize..400, byte in any::<u8>(), keep in 0usize..400
        ) {
            let mut bytes = archive(&[("init", b"#!/bin/sh"), ("rootfs.sqsh", &[7; 60])]);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(keep);
            let _ = read(&bytes);
        }
    }
}
