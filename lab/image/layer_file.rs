//! A layer of an initramfs, as a section of a temporary file that holds all layers.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// The bytes of a layer. Clones share the file, and each has its own position. The file is deleted with the last
/// clone.
#[derive(Clone, Debug)]
pub struct LayerFile {
    file: Arc<File>,
    offset: u64,
    length: u64,
    at: u64,
}

impl LayerFile {
    /// Refers to `length` bytes of `file` from `offset`.
    pub(super) fn new(file: Arc<File>, offset: u64, length: u64) -> Self {
        Self { file, offset, length, at: 0 }
    }
}

impl Read for LayerFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.at);
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..most], self.offset.saturating_add(self.at))?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for LayerFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_section_ends_where_the_next_begins_and_clones_have_their_own_position() {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(b"firstsecondthird").expect("write");
        let mut section = LayerFile::new(Arc::new(file), 5, 6);
        let mut other = section.clone();
        other.seek(SeekFrom::End(-3)).expect("seek");
        let mut text = String::new();
        section.read_to_string(&mut text).expect("read");
        assert_eq!(text, "second");
        text.clear();
        other.read_to_string(&mut text).expect("read");
        assert_eq!(text, "ond");
        assert!(section.seek(SeekFrom::Current(-7)).is_err(), "a position before the start");
    }
}
