//! Sources in the lab binary.

use std::{fs, io, path::Path};

use lab_image::keep_directory;
use lab_model::Digest;

/// Files by their path, with their text.
#[derive(Clone, Copy, Debug)]
pub struct Sources(pub &'static [(&'static str, &'static str)]);

impl Sources {
    /// Returns the digest of all paths and texts.
    pub fn digest(&self) -> Digest {
        digest(self.0.iter().copied())
    }

    /// Returns the digest of the files with these paths below `directory`. It is [`Self::digest`] if the texts
    /// are the same.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn digest_below(&self, directory: &Path) -> io::Result<Digest> {
        let read = |(name, _): &(&'static str, _)| Ok((*name, fs::read_to_string(directory.join(name))?));
        let files = self.0.iter().map(read).collect::<io::Result<Vec<_>>>()?;
        Ok(digest(files.iter().map(|(name, text)| (*name, text.as_str()))))
    }

    /// Writes the files below `directory`. Does nothing if the directory exists: it is created with all files
    /// or not at all.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn unpack(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(parent)?;
        for (name, text) in self.0 {
            let path = partial.path().join(name);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, text)?;
        }
        keep_directory(partial, directory)
    }
}

fn digest<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Digest {
    let content: String = files.map(|(name, text)| format!("{name} {}\n{text}", text.len())).collect();
    Digest::of_bytes(content.as_bytes())
}
