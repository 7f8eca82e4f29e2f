//! A boot file: a file of its own, or a section of one.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde::Serialize;

/// Where a kernel or an initramfs lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// The file.
    pub file: PathBuf,
    /// Which part of it, when it is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<Section>,
}

/// A section of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Its name, e.g. `.linux`.
    pub name: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub size: u64,
}

impl Part {
    /// All of `file`.
    pub fn whole(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), section: None }
    }

    /// Opens it for reading from its first byte.
    ///
    /// # Errors
    /// Those of the file.
    pub fn open(&self) -> io::Result<io::Take<File>> {
        let mut file = File::open(&self.file)?;
        let Some(section) = &self.section else { return Ok(file.take(u64::MAX)) };
        file.seek(SeekFrom::Start(section.offset))?;
        Ok(file.take(section.size))
    }

    /// Its content, up to `limit` bytes and one more.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn read(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.section.as_ref().map_or(Ok(()), |section| write!(f, " ({})", section.name))
    }
}
