//! The store of saved clusters: one directory per cluster, written atomically.
//!
//! ```text
//! target/lab/cache/warm/3f0c…/      complete: renamed into place
//!   snapshot.json                   the manifest, with a checksum of every file
//!   secrets.yaml talosconfig kubeconfig
//!   cp-1.memory cp-1.disk …
//!   used                            its modification time is the last use
//!   in-use.lock                     held during a restore or a removal
//! target/lab/cache/warm/.new-…/     a draft; removed if no process holds its lock
//! ```

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use lab_model::{
    files::{FileLock, create_private_directory, replace_file},
    node::NodeName,
};
use lab_plan::{
    cluster::ClusterSpec,
    config::{SecretsBundle, Talosconfig},
};
use serde::de::DeserializeOwned;
use walkdir::WalkDir;

use super::{
    key::WarmKey,
    saved::{SavedAccess, SavedCluster},
};
use crate::formation::disk_files::free_bytes;

/// The manifest of a saved cluster.
const MANIFEST: &str = "snapshot.json";
const SECRETS: &str = "secrets.yaml";
const TALOSCONFIG: &str = "talosconfig";
const KUBECONFIG: &str = "kubeconfig";
/// The directory of the tailnet's control server.
pub(super) const CONTROL_SERVER: &str = "control-server";
const SPEC: &str = "spec.json";
const USED: &str = "used";
const LOCK: &str = "in-use.lock";
/// Bytes that must stay free on the disk after a save.
const LEFT_FREE: u64 = 4 << 30;
/// Name prefix of the directory of a draft.
const DRAFT: &str = ".new-";
/// Number of differences to report; a cluster with other nodes differs in all node fields.
const TOLD: usize = 3;

/// Errors of the store.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// A file operation failed.
    #[error("{action} {}: {source}; check free space, or remove the directory of warm clusters", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The files of a saved cluster do not match its manifest.
    #[error("the warm cluster in {} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
    /// The disk is nearly full.
    #[error(
        "{} has {} MiB left and {} are needed; `lab cache prune` frees space", path.display(), free >> 20, need >> 20
    )]
    NoSpace {
        path: PathBuf,
        /// Required free space, in bytes.
        need: u64,
        /// Available space, in bytes.
        free: u64,
    },
    /// Another lab uses the saved cluster.
    #[error("the warm cluster in {} is in use by another lab", path.display())]
    InUse { path: PathBuf },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WarmError + use<> {
    let path = path.to_owned();
    move |source| WarmError::File { action, path, source }
}

/// The saved clusters below one directory.
#[derive(Clone, Debug)]
pub struct WarmStore {
    root: PathBuf,
}

/// The result of a lookup by key.
#[derive(Debug)]
pub enum Lookup {
    /// A complete saved cluster. The checksums of its files are not verified yet.
    Found(Box<Snapshot>),
    /// No saved cluster; the text gives the reason for the user.
    Cold(String),
}

/// A saved cluster that this process has locked.
#[derive(Debug)]
pub struct Snapshot {
    pub directory: PathBuf,
    pub saved: SavedCluster,
    /// The credentials for the cluster.
    pub access: SavedAccess,
    _lock: FileLock,
}

/// A saved cluster as an entry of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmEntry {
    pub directory: PathBuf,
    pub saved: SavedCluster,
    /// Disk usage in bytes.
    pub bytes: u64,
    /// Time of the last restore or save.
    pub used: SystemTime,
}

impl WarmEntry {
    /// The spec of the saved cluster, without the secrets in its patches.
    pub fn spec(&self) -> Option<ClusterSpec> {
        serde_json::from_slice(&fs::read(self.directory.join(SPEC)).ok()?).ok()
    }
}

/// A cluster that is being saved. Drop removes the written files.
#[derive(Debug)]
pub struct Draft {
    directory: Option<PathBuf>,
    target: PathBuf,
    _lock: FileLock,
}

impl WarmStore {
    /// The store below `root`. The first save creates the directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Looks up a key. Removes a damaged cluster.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, key: &WarmKey) -> Result<Lookup, WarmError> {
        self.remove_abandoned();
        let directory = self.root.join(key.short());
        if !directory.is_dir() {
            return Ok(Lookup::Cold(self.why_none(key)?));
        }
        let lock = directory.join(LOCK);
        let lock = FileLock::acquire(&lock).map_err(failed("lock", &lock))?;
        match open(&directory, key) {
            Ok((saved, access)) => {
                mark_used(&directory);
                Ok(Lookup::Found(Box::new(Snapshot { directory, saved, access, _lock: lock })))
            }
            Err(problem) => {
                remove_whole(&directory)?;
                Ok(Lookup::Cold(format!("the saved cluster was damaged ({problem}) and is removed")))
            }
        }
    }

    /// The reason for a miss: the most similar saved cluster, and the differences.
    fn why_none(&self, key: &WarmKey) -> Result<String, WarmError> {
        let alike = |other: &WarmKey| {
            (&other.cluster, other.stage, &other.name) == (&key.cluster, key.stage, &key.name)
        };
        let differences = self.list()?.into_iter().filter(|entry| alike(&entry.saved.key));
        let nearest = differences.map(|entry| key.differences(&entry.saved.key)).min_by_key(Vec::len);
        Ok(match nearest {
            None => "no cluster of this kind was saved yet".to_owned(),
            Some(differences) => format!("the most similar saved cluster has {}", few(&differences)),
        })
    }

    /// All saved clusters, the most recently used first.
    ///
    /// # Errors
    /// When the store cannot be read. The list omits damaged clusters; [`WarmStore::find`] removes them.
    pub fn list(&self) -> Result<Vec<WarmEntry>, WarmError> {
        let mut entries: Vec<_> = self.directories()?.into_iter().filter_map(entry).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        Ok(entries)
    }

    /// The cluster that the user saved under a name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn named(&self, name: &NodeName) -> Result<Option<WarmEntry>, WarmError> {
        Ok(self.list()?.into_iter().find(|entry| entry.saved.key.name.as_ref() == Some(name)))
    }

    fn directories(&self) -> Result<Vec<PathBuf>, WarmError> {
        match fs::read_dir(&self.root) {
            Ok(entries) => {
                Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed("list", &self.root)(error)),
        }
    }

    /// Starts to save a cluster of at most `bytes` bytes.
    ///
    /// # Errors
    /// When the directory cannot be created, or the disk would be nearly full afterwards.
    pub fn begin(&self, key: &WarmKey, bytes: u64) -> Result<Draft, WarmError> {
        create_private_directory(&self.root).map_err(failed("create", &self.root))?;
        let need = bytes + LEFT_FREE;
        let free = free_bytes(&self.root).map_err(failed("query the free space of", &self.root))?;
        if free < need {
            return Err(WarmError::NoSpace { path: self.root.clone(), need, free });
        }
        let directory = self.root.join(format!("{DRAFT}{}-{}", key.short(), std::process::id()));
        create_private_directory(&directory).map_err(failed("create", &directory))?;
        let lock = directory.join(LOCK);
        let lock = FileLock::acquire(&lock).map_err(failed("lock", &lock))?;
        Ok(Draft { directory: Some(directory), target: self.root.join(key.short()), _lock: lock })
    }

    /// Removes a saved cluster.
    ///
    /// # Errors
    /// When another lab uses the cluster, or a file operation fails.
    pub fn remove(&self, directory: &Path) -> Result<(), WarmError> {
        let lock = directory.join(LOCK);
        match FileLock::try_acquire(&lock).map_err(failed("lock", &lock))? {
            Some(_lock) => remove_whole(directory),
            None => Err(WarmError::InUse { path: directory.to_owned() }),
        }
    }

    /// Removes the other clusters with this name, of which only one can be meant: clusters of another kind, or of other
    /// images.
    ///
    /// # Errors
    /// When one of them is in use, or a file operation fails.
    pub(crate) fn remove_others(&self, name: &NodeName, kept: &Path) -> Result<(), WarmError> {
        let entries = self.list()?.into_iter();
        let mut others =
            entries.filter(|entry| entry.saved.key.name.as_ref() == Some(name) && entry.directory != kept);
        others.try_for_each(|entry| self.remove(&entry.directory))
    }

    /// Removes the least recently used clusters until the rest takes at most `limit` bytes. Keeps clusters
    /// that are in use and clusters that the user named. Returns the removed clusters.
    ///
    /// # Errors
    /// When the store cannot be read or a cluster cannot be removed.
    pub fn prune(&self, limit: u64) -> Result<Vec<WarmEntry>, WarmError> {
        self.remove_abandoned();
        let (mut total, mut removed) = (0, Vec::new());
        for entry in self.list()? {
            if total + entry.bytes <= limit || entry.saved.key.name.is_some() {
                total += entry.bytes;
                continue;
            }
            match self.remove(&entry.directory) {
                Ok(()) => removed.push(entry),
                Err(WarmError::InUse { .. }) => total += entry.bytes,
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Removes the drafts of labs that were killed.
    fn remove_abandoned(&self) {
        for directory in self.directories().unwrap_or_default() {
            let is_draft =
                directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DRAFT));
            // A failure here only costs disk space; the next run tries again.
            if is_draft && let Ok(Some(_lock)) = FileLock::try_acquire(&directory.join(LOCK)) {
                let _ = fs::remove_dir_all(&directory);
            }
        }
    }
}

impl Snapshot {
    /// The path of a file of the saved cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Removes the saved cluster because it is unusable.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn discard(self) -> Result<WarmKey, WarmError> {
        remove_whole(&self.directory)?;
        Ok(self.saved.key)
    }

    /// The directory of the tailnet's control server, if it was saved with the cluster.
    pub fn control_server(&self) -> Option<PathBuf> {
        (!self.saved.control_server.is_empty()).then(|| self.file(CONTROL_SERVER))
    }
}

impl Draft {
    /// The path of a file to write.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.as_ref().unwrap_or(&self.target).join(name)
    }

    /// Publishes the draft as the saved cluster, and replaces the previous one.
    ///
    /// # Errors
    /// When a file cannot be written, or the previous cluster is in use.
    pub fn commit(
        mut self,
        saved: &SavedCluster,
        access: &SavedAccess,
        spec: &ClusterSpec,
    ) -> Result<PathBuf, WarmError> {
        let Some(directory) = self.directory.clone() else { return Ok(self.target.clone()) };
        let texts = [
            (SECRETS, access.secrets.to_yaml().map_err(io::Error::other)),
            (TALOSCONFIG, access.talosconfig.to_yaml().map_err(io::Error::other)),
            (KUBECONFIG, Ok(access.kubeconfig.clone())),
            (SPEC, serde_json::to_string_pretty(spec).map_err(io::Error::other)),
            (USED, Ok(String::new())),
            (MANIFEST, serde_json::to_string_pretty(saved).map_err(io::Error::other)),
        ];
        for (name, text) in texts {
            let path = directory.join(name);
            text.and_then(|text| replace_file(&path, text.as_bytes())).map_err(failed("write", &path))?;
        }
        if self.target.is_dir() {
            let lock = self.target.join(LOCK);
            let Some(_lock) = FileLock::try_acquire(&lock).map_err(failed("lock", &lock))? else {
                return Err(WarmError::InUse { path: self.target.clone() });
            };
            if exchange(&directory, &self.target) {
                // The earlier cluster is a draft now, which the drop of this value or the next lab removes.
                return Ok(self.target.clone());
            }
            remove_whole(&self.target)?;
        }
        fs::rename(&directory, &self.target).map_err(failed("rename", &directory))?;
        self.directory = None;
        Ok(self.target.clone())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// Exchanges two directories, so that a lab that is killed loses neither. Returns false where the system or the file
/// system cannot do that.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn exchange(one: &Path, other: &Path) -> bool {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).is_ok()
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn exchange(_one: &Path, _other: &Path) -> bool {
    false
}

/// Removes a directory. A directory that is already gone is no error.
fn remove_whole(directory: &Path) -> Result<(), WarmError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", directory)(error)),
        _ => Ok(()),
    }
}

/// Opens a saved cluster if all its files have the expected sizes; otherwise returns the problem.
fn open(directory: &Path, key: &WarmKey) -> Result<(SavedCluster, SavedAccess), String> {
    let saved: SavedCluster = manifest(directory)?;
    if saved.key != *key {
        return Err("it was saved under another key".into());
    }
    let of_nodes = saved.nodes.iter().flat_map(|node| [&node.memory, &node.disk]);
    for file in of_nodes.chain(&saved.control_server) {
        let length = fs::metadata(directory.join(&file.file)).map(|metadata| metadata.len());
        match length {
            Ok(length) if length == file.sum.length => {}
            Ok(length) => return Err(format!("{} has {length} of {} bytes", file.file, file.sum.length)),
            Err(error) => return Err(format!("{}: {error}", file.file)),
        }
    }
    let text =
        |name: &str| fs::read_to_string(directory.join(name)).map_err(|error| format!("{name}: {error}"));
    let access = SavedAccess {
        secrets: SecretsBundle::from_yaml(&text(SECRETS)?).map_err(|error| format!("{SECRETS}: {error}"))?,
        talosconfig: Talosconfig::from_yaml(&text(TALOSCONFIG)?)
            .map_err(|error| format!("{TALOSCONFIG}: {error}"))?,
        kubeconfig: text(KUBECONFIG)?,
    };
    Ok((saved, access))
}

/// The first differences as text, and the number of further ones.
fn few(differences: &[String]) -> String {
    let told = differences.iter().take(TOLD).map(String::as_str).collect::<Vec<_>>().join("; ");
    match differences.len().saturating_sub(TOLD) {
        0 => told,
        more => format!("{told}; and {more} more differences"),
    }
}

fn manifest<T: DeserializeOwned>(directory: &Path) -> Result<T, String> {
    let text = fs::read(directory.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("{MANIFEST}: {error}"))
}

fn entry(directory: PathBuf) -> Option<WarmEntry> {
    let saved = manifest(&directory).ok()?;
    let used = fs::metadata(directory.join(USED)).and_then(|used| used.modified()).ok()?;
    let files = WalkDir::new(&directory).into_iter().flatten().filter_map(|file| file.metadata().ok());
    let bytes = files.map(|file| file.blocks() * 512).sum();
    Some(WarmEntry { directory, saved, bytes, used })
}

/// Without this update the cluster only seems older than it is.
fn mark_used(directory: &Path) {
    let _ = replace_file(&directory.join(USED), b"");
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
