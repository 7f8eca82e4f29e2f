//! Verifies files by digest before the registry serves them.
//!
//! The registry reads a file once before it sends the first byte. It reads the file again if the device,
//! inode, size, modification time or change time differs. Compared with hashing while streaming, this costs
//! one additional read, which all nodes share and which usually hits the page cache. In return, responses
//! to HEAD and range requests are correct, and the registry reports damage as an error message instead of a
//! broken connection. The next run detects changes on the disk that bypass the file system after the first
//! read.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::{self, BufReader, Seek},
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use lab_model::Digest;
use tokio::sync::OnceCell;

/// The minimum age of the last change before timestamps reliably reveal the next change. It exceeds the
/// timestamp granularity of any file system.
const AT_REST: Duration = Duration::from_secs(2);
/// Chunk size for hashing, in bytes.
const CHUNK: usize = 256 << 10;

/// The cached digests of files.
#[derive(Default)]
pub(super) struct Proofs {
    known: Mutex<HashMap<FileIdentity, Arc<OnceCell<Digest>>>>,
}

/// The identity of a file and its content state.
#[derive(Clone, PartialEq, Eq, Hash)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_at_rest(&self) -> bool {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(self.changed.0.try_into().unwrap_or(0));
        // A change time in the future indicates a wrong clock, so it is not reliable.
        changed.elapsed().is_ok_and(|age| age > AT_REST)
    }
}

impl Proofs {
    /// Returns the digest of `file` and rewinds it to the start. Concurrent calls for the same file share
    /// one read.
    pub(super) async fn digest_of(&self, file: &mut File) -> io::Result<Digest> {
        let identity = FileIdentity::of(&file.metadata()?);
        let at_rest = identity.is_at_rest();
        let cell = Arc::clone(self.lock().entry(identity.clone()).or_default());
        let content = file.try_clone()?;
        let read = || async {
            let digest = tokio::task::spawn_blocking(move || {
                Digest::of_reader(BufReader::with_capacity(CHUNK, content))
            });
            digest.await.map_err(io::Error::other)?
        };
        let digest = cell.get_or_try_init(read).await?.clone();
        if !at_rest {
            self.lock().remove(&identity);
        }
        file.rewind()?;
        Ok(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FileIdentity, Arc<OnceCell<Digest>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_file_at_rest_is_read_once_and_a_changed_one_again() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("blob");
        fs::write(&path, "one").expect("write");
        let proofs = Proofs::default();
        let ask = async || {
            let mut file = File::open(&path).expect("open");
            let digest = proofs.digest_of(&mut file).await.expect("digest");
            assert_eq!(file.stream_position().expect("position"), 0);
            digest
        };
        assert_eq!(ask().await, Digest::of_bytes(b"one"));
        assert!(proofs.lock().is_empty(), "a file that was just written is trusted");
        // The new content has the same length and the same timestamp granule.
        fs::write(&path, "two").expect("write");
        assert_eq!(ask().await, Digest::of_bytes(b"two"));

        // A fake digest for an unchanged file shows that the file is not read again.
        let identity = FileIdentity::of(&fs::metadata(&path).expect("stat"));
        let cell = Arc::new(OnceCell::new_with(Some(Digest::of_bytes(b"known"))));
        proofs.lock().insert(identity, cell);
        assert_eq!(ask().await, Digest::of_bytes(b"known"));
        let other = fs::write(directory.path().join("new"), "two");
        other.and_then(|()| fs::rename(directory.path().join("new"), &path)).expect("replace");
        assert_eq!(ask().await, Digest::of_bytes(b"two"));
    }
}
