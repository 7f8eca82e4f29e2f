//! Files are only served as what their digest says.
//!
//! A file is read once before its first byte is sent, and again whenever it is another file than
//! before: by device, inode, size and both times of change. Compared with hashing while streaming
//! that costs one more read, shared by all nodes and most often out of the page cache, and buys that
//! HEAD and ranges are answered truthfully and that damage is told in words instead of by a broken
//! connection. What changes on the disk without the file system's knowledge, after the first read,
//! is seen by the next run.

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

/// How long a file must have been at rest for its times to tell the next change: longer than any
/// file system's clock stands still between two ticks.
const AT_REST: Duration = Duration::from_secs(2);
/// How many bytes are hashed at once.
const CHUNK: usize = 256 << 10;

/// The digests of files, as they were when last looked at.
#[derive(Default)]
pub(super) struct Proofs {
    known: Mutex<HashMap<FileIdentity, Arc<OnceCell<Digest>>>>,
}

/// A file in one state of its content.
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
        // A change in the future is a wrong clock, by which nothing can be told.
        changed.elapsed().is_ok_and(|age| age > AT_REST)
    }
}

impl Proofs {
    /// The digest of what `file` holds; leaves it at its beginning. Any number may ask for the same
    /// file at once: it is read by one of them.
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
        // The same length within the same tick of the clock.
        fs::write(&path, "two").expect("write");
        assert_eq!(ask().await, Digest::of_bytes(b"two"));

        // A stand-in for the digest of a file at rest shows that it is not read again.
        let identity = FileIdentity::of(&fs::metadata(&path).expect("stat"));
        let cell = Arc::new(OnceCell::new_with(Some(Digest::of_bytes(b"known"))));
        proofs.lock().insert(identity, cell);
        assert_eq!(ask().await, Digest::of_bytes(b"known"));
        let other = fs::write(directory.path().join("new"), "two");
        other.and_then(|()| fs::rename(directory.path().join("new"), &path)).expect("replace");
        assert_eq!(ask().await, Digest::of_bytes(b"two"));
    }
}
