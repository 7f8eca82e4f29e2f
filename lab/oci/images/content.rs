//! Files in an image layout or archive, by name. The reader verifies the digest of each file.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use lab_image::{Compression, decompress};
use lab_model::Digest;
use serde::de::DeserializeOwned;

use super::{error::OciError, tar_files::each};

/// A limit in bytes, above the size of any manifest or config.
pub(super) const TEXT_LIMIT: u64 = 4 << 20;
/// A limit in bytes, above the unpacked size of any node image archive.
const ARCHIVE_LIMIT: u64 = 8 << 30;
/// A limit above the entry count of any image archive.
const ENTRIES: usize = 10_000;

/// The files of an image.
pub struct ImageFiles {
    /// The name in messages.
    pub(crate) name: String,
    storage: Storage,
}

enum Storage {
    Directory(PathBuf),
    Archive { file: PathBuf, entries: BTreeMap<String, (u64, u64)>, _unpacked: Option<tempfile::TempPath> },
}

impl ImageFiles {
    /// Opens a directory: an image layout, or a directory with the same `blobs/` structure.
    pub fn directory(path: &Path) -> Self {
        Self { name: path.display().to_string(), storage: Storage::Directory(path.to_owned()) }
    }

    /// Opens a tar archive, compressed or uncompressed. Unpacks a compressed archive into `scratch`; the
    /// unpacked file exists as long as this value.
    pub fn archive(path: &Path, scratch: &Path) -> Result<Self, OciError> {
        let mut input = BufReader::new(File::open(path).map_err(OciError::file("open", path))?);
        let head = io::BufRead::fill_buf(&mut input).map_err(OciError::file("read", path))?;
        let compression = Compression::detect(head);
        let (file, unpacked) = if compression == Compression::Uncompressed {
            (path.to_owned(), None)
        } else {
            fs::create_dir_all(scratch).map_err(OciError::file("create", scratch))?;
            let mut out =
                tempfile::NamedTempFile::new_in(scratch).map_err(OciError::file("write in", scratch))?;
            decompress(compression, input, &mut out, ARCHIVE_LIMIT)
                .map_err(OciError::file("unpack", path))?;
            (out.path().to_owned(), Some(out.into_temp_path()))
        };
        let entries = entries(&file).map_err(OciError::file("read", path))?;
        let storage = Storage::Archive { file, entries, _unpacked: unpacked };
        Ok(Self { name: path.display().to_string(), storage })
    }

    /// Reports whether a file with this name exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.storage {
            Storage::Directory(directory) => directory.join(name).is_file(),
            Storage::Archive { entries, .. } => entries.contains_key(name),
        }
    }

    /// Opens a file by name.
    pub(crate) fn open(&self, name: &str) -> Result<Box<dyn Read>, OciError> {
        let opened = match &self.storage {
            Storage::Directory(directory) => {
                File::open(directory.join(name)).map(|file| Box::new(file) as Box<dyn Read>)
            }
            Storage::Archive { file, entries, .. } => match entries.get(name) {
                None => Err(io::ErrorKind::NotFound.into()),
                Some((offset, size)) => section(file, *offset, *size),
            },
        };
        opened.map_err(|error| self.damaged(name, error))
    }

    /// Reads a JSON file. Verifies its digest if `digest` is set.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        name: &str,
        digest: Option<&Digest>,
    ) -> Result<T, OciError> {
        serde_json::from_slice(&self.text(name, digest)?).map_err(|error| self.damaged(name, error))
    }

    /// Reads a text file. Verifies its digest if `digest` is set.
    pub(super) fn text(&self, name: &str, digest: Option<&Digest>) -> Result<Vec<u8>, OciError> {
        let mut bytes = Vec::new();
        self.open(name)?
            .take(TEXT_LIMIT + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.damaged(name, error))?;
        if bytes.len() as u64 > TEXT_LIMIT {
            let limit = TEXT_LIMIT >> 20;
            return Err(
                self.damaged(name, format!("it has more than {limit} MiB; no manifest or config has"))
            );
        }
        match digest.map(|promised| (promised, Digest::of_bytes(&bytes))) {
            Some((promised, found)) if *promised != found => {
                Err(self.damaged(name, format!("its content has {found}; fetch the image again")))
            }
            _ => Ok(bytes),
        }
    }

    pub(crate) fn damaged(&self, part: &str, why: impl ToString) -> OciError {
        OciError::Damaged { within: self.name.clone(), part: part.to_owned(), why: why.to_string() }
    }
}

fn section(file: &Path, offset: u64, size: u64) -> io::Result<Box<dyn Read>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file.take(size)))
}

/// Returns the name, offset and length of every file in an archive.
fn entries(archive: &Path) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    let mut found = BTreeMap::new();
    each(archive.entries_with_seek()?, |named, entry| {
        if entry.header().entry_type().is_file() {
            let name = named.path().trim_start_matches("./").to_owned();
            found.insert(name, (entry.raw_file_position(), entry.size()));
        }
        if found.len() > ENTRIES {
            return Err(io::Error::other(format!("it has more than {ENTRIES} files; no image has")));
        }
        Ok(())
    })?;
    Ok(found)
}
