//! Writes an initramfs: a cpio archive in the `newc` format (Linux
//! Documentation/driver-api/early-userspace/buffer-format.rst), sorted and without timestamps.

use std::io;

pub struct CpioEntry {
    /// The path without a leading slash.
    pub name: String,
    /// File type and permission bits.
    mode: u32,
    content: Vec<u8>,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

impl CpioEntry {
    /// Creates a directory entry.
    pub fn directory(name: &str) -> Self {
        Self { name: name.into(), mode: DIRECTORY, content: Vec::new() }
    }

    /// Creates an executable file.
    pub fn program(name: &str, content: Vec<u8>) -> Self {
        Self { name: name.into(), mode: PROGRAM, content }
    }

    /// Creates a regular file.
    pub fn file(name: &str, content: Vec<u8>) -> Self {
        Self { name: name.into(), mode: FILE, content }
    }
}

/// Writes the archive. Entries keep their order, so directories must precede their contents.
pub fn write(entries: &[CpioEntry], mut to: impl io::Write) -> io::Result<()> {
    for (index, entry) in entries.iter().enumerate() {
        let length = u32::try_from(entry.content.len()).map_err(io::Error::other)?;
        let mut writer = cpio::NewcBuilder::new(&entry.name)
            .ino(u32::try_from(index + 1).map_err(io::Error::other)?)
            .mode(entry.mode)
            .nlink(if entry.mode == DIRECTORY { 2 } else { 1 })
            .write(&mut to, length);
        io::Write::write_all(&mut writer, &entry.content)?;
        writer.finish()?;
    }
    cpio::newc::trailer(to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_archive_reads_back_and_is_the_same_each_time() {
        let entries = [
            CpioEntry::directory("modules"),
            CpioEntry::program("init", b"#!x".to_vec()),
            CpioEntry::file("a", vec![7; 5]),
        ];
        let archive = || {
            let mut out = Vec::new();
            write(&entries, &mut out).expect("write");
            out
        };
        let bytes = archive();
        assert_eq!(bytes, archive());
        let mut rest = &bytes[..];
        let mut names = Vec::new();
        loop {
            let mut reader = cpio::NewcReader::new(rest).expect("entry");
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).expect("read");
            names.push((reader.entry().name().to_owned(), reader.entry().mode(), content));
            rest = reader.finish().expect("finish");
        }
        assert_eq!(names.len(), 3);
        assert_eq!(names[1], ("init".into(), PROGRAM, b"#!x".to_vec()));
    }
}
