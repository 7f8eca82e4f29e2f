//! A boot file: a complete file or a section of a file.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde::Serialize;

/// The location of a kernel or an initramfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub file: PathBuf,
    /// The section, or `None` for the complete file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<Section>,
}

/// A section of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The section name, e.g. `.linux`.
    pub name: String,
    /// Start offset in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

impl Part {
    /// Refers to the complete file.
    pub fn whole(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), section: None }
    }

    /// Opens the part at its first byte.
    ///
    /// # Errors
    /// Returns the errors of the file.
    pub fn open(&self) -> io::Result<io::Take<File>> {
        let mut file = File::open(&self.file)?;
        let Some(section) = &self.section else { return Ok(file.take(u64::MAX)) };
        file.seek(SeekFrom::Start(section.offset))?;
        Ok(file.take(section.size))
    }

    /// Reads up to `limit` + 1 bytes, so that the caller can detect larger files.
    ///
    /// # Errors
    /// Returns the errors of the file.
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
