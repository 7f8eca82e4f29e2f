//! The preloaded disks of a user, kept between runs.
//!
//! Each disk has two files, named by a digest of its contents: `KEY.raw`, and `KEY.json`, which is written last. If no
//! disk could be made, `KEY.json` says why, so that runs do not try again and again. It counts for a day, as the host may have
//! been the reason.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use lab_model::files::{FileLock, create_private_directory, replace_file};
use lab_plan::cluster::DiskContents;
use serde::{Deserialize, Serialize};

use crate::formation::{
    disk_files::{Sum, copy, free_bytes},
    warm::{json, short_digest},
};

/// Part of each key; increased when a change of the lab makes old disks useless.
const FORMAT: u32 = 1;
/// Maximum number of disks; those that were not used for the longest time are removed. A disk takes about 1 GB.
const KEPT: usize = 4;
/// The time after which a failure no longer counts.
const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// Free space that the file system must have after a disk is made, in bytes.
const LEFT_FREE: u64 = 8 << 30;

/// Why a preloaded disk cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum PreloadError {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The file system is nearly full.
    #[error("{} has {} MiB left, and a preloaded disk leaves {} MiB free", path.display(), free >> 20, LEFT_FREE >> 20)]
    NoSpace { path: PathBuf, free: u64 },
    /// An earlier run failed to make the disk.
    #[error("an earlier run could not make it: {reason}; runs try again after a day, or when you delete {}", path.display())]
    FailedBefore { reason: String, path: PathBuf },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PreloadError + use<> {
    let path = path.to_owned();
    move |source| PreloadError::File { action, path, source }
}

/// The content of `KEY.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Entry {
    Made(Sum),
    Failed(String),
}

/// A disk to copy.
#[derive(Clone, Debug)]
pub struct Preloaded {
    disk: PathBuf,
    sum: Sum,
}

/// The disks below one directory.
#[derive(Clone, Debug)]
pub struct PreloadStore {
    root: PathBuf,
}

/// The right to make a disk, which one process has at a time.
#[derive(Debug)]
pub struct Preloading {
    store: PreloadStore,
    key: String,
    _lock: FileLock,
}

impl Preloaded {
    /// Copies the disk to `to`. Returns false if the disk is damaged; it is removed then, and so is the copy.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn copy_to(&self, to: &Path) -> io::Result<bool> {
        if copy(&self.disk, to)? == self.sum {
            return Ok(true);
        }
        fs::remove_file(to)?;
        let _ = fs::remove_file(self.disk.with_extension("json"));
        let _ = fs::remove_file(&self.disk);
        Ok(false)
    }
}

impl PreloadStore {
    /// The store below `root`. The first disk creates the directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The disk with these contents, or the right to make it. Waits for another process that makes it now.
    ///
    /// # Errors
    /// When an earlier run could not make it, there is no space for it, or a file operation fails.
    pub fn find(&self, contents: &DiskContents) -> Result<Result<Preloaded, Preloading>, PreloadError> {
        let key = key_of(contents);
        if let Some(disk) = self.existing(&key)? {
            return Ok(Ok(disk));
        }
        create_private_directory(&self.root).map_err(failed("create", &self.root))?;
        let path = self.root.join(format!("{key}.lock"));
        let lock = FileLock::acquire(&path).map_err(failed("lock", &path))?;
        if let Some(disk) = self.existing(&key)? {
            return Ok(Ok(disk));
        }
        let free = free_bytes(&self.root).map_err(failed("query the free space of", &self.root))?;
        if free < LEFT_FREE {
            return Err(PreloadError::NoSpace { path: self.root.clone(), free });
        }
        Ok(Err(Preloading { store: self.clone(), key, _lock: lock }))
    }

    fn existing(&self, key: &str) -> Result<Option<Preloaded>, PreloadError> {
        let path = self.entry(key);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let disk = self.root.join(format!("{key}.raw"));
        match serde_json::from_slice(&text) {
            Ok(Entry::Failed(reason)) if is_recent(&path) => Err(PreloadError::FailedBefore { reason, path }),
            Ok(Entry::Made(sum)) if fs::metadata(&disk).is_ok_and(|found| found.len() == sum.length) => {
                // Without this update the disk only seems older than it is.
                let _ = replace_file(&path, &text);
                Ok(Some(Preloaded { disk, sum }))
            }
            // A killed process, or a foreign file: it is made again.
            _ => Ok(None),
        }
    }

    fn entry(&self, key: &str) -> PathBuf {
        self.root.join(format!("{key}.json"))
    }

    /// Removes the disks that were not used for the longest time. A failure only costs disk space.
    fn prune(&self) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let used = |path: &Path| fs::metadata(path).and_then(|found| found.modified());
        let mut disks: Vec<(SystemTime, PathBuf)> = entries
            .map(|entry| entry.path().with_extension("json"))
            .filter(|path| path.with_extension("raw").exists())
            .filter_map(|path| Some((used(&path).ok()?, path)))
            .collect();
        disks.sort();
        disks.dedup();
        disks.reverse();
        for (_, path) in disks.iter().skip(KEPT) {
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(path.with_extension("raw"));
        }
    }
}

impl Preloading {
    /// Keeps a disk. Returns it, and the bytes that it takes.
    ///
    /// # Errors
    /// When a file operation fails; nothing is kept then.
    pub fn keep(self, disk: &Path) -> Result<(Preloaded, u64), PreloadError> {
        use std::os::unix::fs::MetadataExt;
        let Self { store, key, .. } = &self;
        let partial = store.root.join(format!("{key}.partial"));
        // A copy is sparse, also where the guest wrote zeros.
        let sum = copy(disk, &partial).map_err(failed("write", &partial))?;
        let kept = store.root.join(format!("{key}.raw"));
        fs::rename(&partial, &kept).map_err(failed("rename", &partial))?;
        self.write(&Entry::Made(sum))?;
        store.prune();
        let bytes = fs::metadata(&kept).map_or(0, |found| found.blocks() * 512);
        Ok((Preloaded { disk: kept, sum }, bytes))
    }

    /// Records that the disk cannot be made.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn give_up(self, reason: String) -> Result<(), PreloadError> {
        self.write(&Entry::Failed(reason))
    }

    fn write(&self, entry: &Entry) -> Result<(), PreloadError> {
        let path = self.store.entry(&self.key);
        let text = serde_json::to_vec(entry).unwrap_or_default();
        replace_file(&path, &text).map_err(failed("write", &path))
    }
}

/// Whether a file was written within [`AGAIN`]. A clock that was set back makes it recent.
fn is_recent(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|found| found.modified());
    written.is_ok_and(|written| written.elapsed().map_or(true, |since| since < AGAIN))
}

fn key_of(contents: &DiskContents) -> String {
    short_digest(&format!("{FORMAT} {}", json(contents)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lab_model::{Digest, Size};
    use lab_plan::cluster::{ImageNamespace, ImageOnDisk};

    use super::*;

    fn contents(digest: &str) -> DiskContents {
        let image = ImageOnDisk { namespace: ImageNamespace::Cri, digest: digest.into() };
        DiskContents {
            image: Digest::of_bytes(b"an image"),
            disk: Size::gib(6),
            images: BTreeMap::from([("registry.k8s.io/pause:3.10.1".to_owned(), image)]),
        }
    }

    struct Fixture {
        directory: tempfile::TempDir,
        store: PreloadStore,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("tempdir");
            let store = PreloadStore::new(directory.path().join("preloaded"));
            Self { directory, store }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        /// Lets time pass since the entry of a disk was written.
        fn age(&self, digest: &str, by: Duration) {
            let entry = self.store.entry(&key_of(&contents(digest)));
            let file = fs::File::options().write(true).open(entry).expect("open");
            file.set_modified(SystemTime::now() - by).expect("age");
        }

        fn make(&self, digest: &str) -> Preloaded {
            let made = self.path("made");
            fs::write(&made, digest.repeat(1000)).expect("write");
            let right = self.store.find(&contents(digest)).expect("find").expect_err("not made yet");
            right.keep(&made).expect("keep").0
        }
    }

    #[test]
    fn a_disk_is_made_once_and_copied_often() {
        let fixture = Fixture::new();
        fixture.make("sha256:a");
        let found = fixture.store.find(&contents("sha256:a")).expect("find").expect("made before");
        let copied = fixture.path("copy");
        assert!(found.copy_to(&copied).expect("copy"));
        assert_eq!(fs::read(&copied).expect("read"), "sha256:a".repeat(1000).as_bytes());
        assert!(
            fixture.store.find(&contents("sha256:b")).expect("find").is_err(),
            "another digest of the same image"
        );
    }

    #[test]
    fn a_damaged_disk_is_not_used_and_made_again() {
        let fixture = Fixture::new();
        let disk = fixture.make("sha256:a");
        fs::write(&disk.disk, "sha256:b".repeat(1000)).expect("damage");
        let copied = fixture.path("copy");
        assert!(!disk.copy_to(&copied).expect("copy"));
        assert!(!copied.exists() && !disk.disk.exists());
        assert!(fixture.store.find(&contents("sha256:a")).expect("find").is_err());
    }

    #[test]
    fn a_disk_that_could_not_be_made_is_not_tried_again() {
        let fixture = Fixture::new();
        let right = fixture.store.find(&contents("sha256:a")).expect("find").expect_err("not made yet");
        right.give_up("the node did not boot".into()).expect("write");
        let error = fixture.store.find(&contents("sha256:a")).expect_err("failed before").to_string();
        let told = "an earlier run could not make it: the node did not boot; runs try again after a day, or when you delete ";
        assert!(error.starts_with(told), "{error}");
        fixture.age("sha256:a", AGAIN);
        assert!(fixture.store.find(&contents("sha256:a")).expect("find").is_err(), "tried again");
    }

    #[test]
    fn a_run_that_was_killed_leaves_nothing_that_counts() {
        let fixture = Fixture::new();
        drop(fixture.store.find(&contents("sha256:a")).expect("find").expect_err("not made yet"));
        fs::write(fixture.store.root.join(format!("{}.raw", key_of(&contents("sha256:a")))), "half")
            .expect("write");
        assert!(fixture.store.find(&contents("sha256:a")).expect("find").is_err());
    }

    #[test]
    fn the_disks_that_were_used_last_stay() {
        let fixture = Fixture::new();
        let all: Vec<_> = (0..=KEPT).map(|number| format!("sha256:{number}")).collect();
        for (digest, minutes) in all[..KEPT].iter().zip((1..=KEPT as u64).rev()) {
            fixture.make(digest);
            fixture.age(digest, Duration::from_secs(60 * minutes));
        }
        assert!(fixture.store.find(&contents(&all[0])).expect("find").is_ok(), "used again");
        fixture.make(&all[KEPT]);
        let there: Vec<_> =
            all.iter().map(|digest| fixture.store.find(&contents(digest)).expect("find").is_ok()).collect();
        assert_eq!(there, [true, false, true, true, true]);
    }
}
