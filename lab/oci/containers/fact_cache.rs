//! A directory of what was found in content, by the digest of the content.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use lab_model::{
    Digest,
    files::{read_bounded, replace_file},
};
use serde::{Serialize, de::DeserializeOwned};

/// The largest entry, in bytes.
const ENTRY_LIMIT: u64 = 64 << 20;
/// The size of all entries above which the oldest are deleted, in bytes.
const SIZE_LIMIT: u64 = 512 << 20;

/// A cache in a directory. Runs can share it: each entry appears atomically. An entry begins with the digest of its
/// text, so damage is found and counts as "not there".
#[derive(Clone, Debug)]
pub struct FactCache {
    directory: PathBuf,
}

impl FactCache {
    /// Creates a cache of facts of one `kind`, whose name changes with the form of the facts.
    pub fn new(directory: &Path, kind: &str) -> Self {
        Self { directory: directory.join(kind) }
    }

    /// Returns the facts about content, if they are there and undamaged.
    pub fn get<T: DeserializeOwned>(&self, content: &Digest) -> Option<T> {
        let bytes = read_bounded(&self.entry(content), ENTRY_LIMIT).ok()?;
        let (head, text) = bytes.split_at_checked(64)?;
        let promised = Digest::from_hex(std::str::from_utf8(head).ok()?)?;
        (Digest::of_bytes(text) == promised).then(|| serde_json::from_slice(text).ok()).flatten()
    }

    /// Keeps the facts about content.
    ///
    /// # Errors
    /// Returns an error if the entry cannot be written.
    pub fn put(&self, content: &Digest, facts: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(facts).map_err(io::Error::other)?;
        if text.len() as u64 + 64 > ENTRY_LIMIT {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        let mut bytes = Digest::of_bytes(&text).hex().into_bytes();
        bytes.extend(text);
        replace_file(&self.entry(content), &bytes)
    }

    /// Deletes the oldest entries until all together have at most 512 MiB.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be read.
    pub fn prune(&self) -> io::Result<()> {
        self.prune_to(SIZE_LIMIT)
    }

    fn prune_to(&self, limit: u64) -> io::Result<()> {
        if !self.directory.is_dir() {
            return Ok(());
        }
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.directory)?.flatten() {
            if let Ok(about) = entry.metadata() {
                let time = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                entries.push((time, about.len(), entry.path()));
            }
        }
        let mut size: u64 = entries.iter().map(|(_, size, _)| size).sum();
        entries.sort();
        for (_, bytes, path) in entries {
            if size <= limit {
                break;
            }
            // Another run may have deleted it.
            let _ = fs::remove_file(path);
            size -= bytes;
        }
        Ok(())
    }

    fn entry(&self, content: &Digest) -> PathBuf {
        self.directory.join(content.hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_there_and_damage_is_not() {
        let directory = tempfile::tempdir().expect("tempdir");
        let cache = FactCache::new(directory.path(), "v1");
        let content = Digest::of_bytes(b"layer");
        assert_eq!(cache.get::<Vec<u8>>(&content), None);
        cache.put(&content, &vec![1, 2, 3]).expect("put");
        assert_eq!(cache.get::<Vec<u8>>(&content), Some(vec![1, 2, 3]));
        let path = cache.entry(&content);
        let text = fs::read_to_string(&path).expect("read").replace("[1,2,3]", "[1,2,4]");
        fs::write(&path, text).expect("write");
        assert_eq!(cache.get::<Vec<u8>>(&content), None);
    }

    #[test]
    fn the_cache_stays_within_its_size() {
        let directory = tempfile::tempdir().expect("tempdir");
        let cache = FactCache::new(directory.path(), "v1");
        for number in 0..10_u8 {
            cache.put(&Digest::of_bytes(&[number]), &"x".repeat(100)).expect("put");
        }
        cache.prune_to(1000).expect("prune");
        let left = fs::read_dir(directory.path().join("v1")).expect("list").count();
        assert_eq!(left, 1000 / (64 + 102));
    }
}
