//! Resolves an image source to files on disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures::{FutureExt, future::BoxFuture};
use lab_image::{DiskCache, belongs, keep_directory};
use lab_model::Digest;
use oci_client::Reference;

use super::{
    cache::FetchCache,
    content::ImageFiles,
    error::OciError,
    files::extract,
    image::Image,
    layout::{Layout, blob_digest},
    lock::Lock,
    registry::{Fetched, fetch},
};
pub use lab_model::Origin;
use lab_model::Source;

/// The file in an image directory that lists the extracted files.
const TAKEN: &str = ".taken.json";

/// Extracted images from registries and archives. The store persists between runs.
#[derive(Clone, Debug)]
pub struct ImageStore {
    directory: PathBuf,
    lock: Lock,
}

/// A source with its files on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The directory or file that contains boot files.
    pub path: PathBuf,
    /// The origin of the files.
    pub origin: Origin,
}

impl ImageStore {
    /// Creates a store in `directory`. The first use creates the directory. `lock` contains the pinned
    /// references.
    pub fn new(directory: impl Into<PathBuf>, lock: Lock) -> Self {
        Self { directory: directory.into(), lock }
    }

    /// Returns the cache for files extracted from disk images.
    pub fn disks(&self) -> DiskCache {
        DiskCache::new(self.directory.join("disks"))
    }

    /// Returns the files of `source`. Extracts them if the source is an image.
    ///
    /// # Errors
    /// See [`OciError`].
    pub fn resolve<'a>(&'a self, source: &'a Source) -> BoxFuture<'a, Result<Resolved, OciError>> {
        self.resolve_source(source).boxed()
    }

    async fn resolve_source(&self, source: &Source) -> Result<Resolved, OciError> {
        match source {
            Source::Path(path) => {
                let (store, path) = (self.clone(), path.clone());
                blocking(move || store.resolve_path(&path)).await
            }
            Source::Registry(reference) => {
                let pinned = self.lock.digest(reference);
                let wanted = match &pinned {
                    Some(pinned) => reference.clone_with_digest(pinned.to_string()),
                    None => (**reference).clone(),
                };
                let cache = FetchCache::new(self.directory.join("oci"));
                let mut fetched = self.fetch_image(&wanted, &cache).await;
                // Fetch damaged content again, once.
                if let Err(OciError::Damaged { part, .. }) = &fetched
                    && let Some(digest) = blob_digest(part)
                {
                    cache.layout.forget(&digest)?;
                    fetched = self.fetch_image(&wanted, &cache).await;
                }
                let (fetched, path, image) = fetched?;
                let mut notes: Vec<_> = fetched.note.into_iter().collect();
                notes.extend(pinned.map(|digest| format!("pinned to {digest} by {}", self.lock.name())));
                let origin = Origin {
                    source: reference.to_string(),
                    digest: Some(fetched.digest),
                    created: image.created,
                    architecture: image.architecture,
                    mutable: wanted.digest().is_none(),
                    notes,
                };
                Ok(Resolved { path, origin })
            }
        }
    }

    fn resolve_path(&self, path: &Path) -> Result<Resolved, OciError> {
        let source = path.display().to_string();
        let plain = || Resolved {
            path: path.to_owned(),
            origin: Origin { source: source.clone(), ..Origin::default() },
        };
        let is_image = Layout::new(path).exists() || (path.is_file() && is_archive(path));
        if !is_image {
            return Ok(plain());
        }
        let (image, content) = Image::open(path, &self.directory)?;
        let path = self.take(&image, &content, true)?;
        let Image { digest, created, architecture, .. } = image;
        let origin = Origin { source, digest: Some(digest), created, architecture, ..Origin::default() };
        Ok(Resolved { path, origin })
    }

    async fn fetch_image(
        &self,
        wanted: &Reference,
        cache: &FetchCache,
    ) -> Result<(Fetched, PathBuf, Image), OciError> {
        let fetched = fetch(wanted, cache).await?;
        let (store, digest, content) =
            (self.clone(), fetched.digest.clone(), ImageFiles::directory(cache.layout.directory()));
        let (path, image) = blocking(move || {
            let image = Image::of_digest(&content, &digest)?;
            Ok((store.take(&image, &content, false)?, image))
        })
        .await?;
        Ok((fetched, path, image))
    }

    /// Returns the directory with the files of an image. Verifies files from an earlier extraction. If
    /// `again` is true, also verifies the image.
    fn take(&self, image: &Image, content: &ImageFiles, again: bool) -> Result<PathBuf, OciError> {
        let images = self.directory.join("images");
        let entry = images.join(image.digest.hex());
        let intact = is_intact(&entry);
        if intact && !again {
            return Ok(entry);
        }
        fs::create_dir_all(&images).map_err(OciError::file("create", &images))?;
        let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(&images);
        let partial = partial.map_err(OciError::file("write in", &images))?;
        extract(image, content, belongs, partial.path())?;
        if intact {
            return Ok(entry);
        }
        let list = serde_json::to_vec(&digests(partial.path())?).unwrap_or_default();
        let file = partial.path().join(TAKEN);
        fs::write(&file, list).map_err(OciError::file("write", &file))?;
        let _ = fs::remove_dir_all(&entry);
        keep_directory(partial, &entry).map_err(OciError::file("create", &entry))?;
        Ok(entry)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OciError> + Send + 'static,
) -> Result<T, OciError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Reports whether a file is a tar archive, compressed or uncompressed.
fn is_archive(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The offset of the magic in the first tar header (POSIX ustar).
    let mut head = [0; 262];
    let read = fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut head));
    name.contains(".tar") || name.ends_with(".tgz") || (read.is_ok() && head.ends_with(b"ustar"))
}

/// Returns every file below `directory` with its digest.
fn digests(directory: &Path) -> Result<Vec<(PathBuf, Digest)>, OciError> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten() {
        if entry.file_type().is_file() && entry.file_name() != TAKEN {
            let path = entry.path();
            let digest =
                fs::File::open(path).and_then(Digest::of_reader).map_err(OciError::file("read", path))?;
            found.push((path.strip_prefix(directory).unwrap_or(path).to_owned(), digest));
        }
    }
    Ok(found)
}

fn is_intact(entry: &Path) -> bool {
    let list = fs::read(entry.join(TAKEN)).ok();
    let now = list.is_some().then(|| digests(entry).ok()).flatten();
    matches!((list, now), (Some(list), Some(now)) if serde_json::to_vec(&now).is_ok_and(|now| now == list))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
