//! A disk with container images, in the image cache layout of Talos: a FAT file system with a label that
//! begins with `TALOS_`. Below `imagecache/`, it contains the files `blob/sha256-HEX` and
//! `manifests/REGISTRY/REPOSITORY/{reference/TAG,digest/sha256-HEX}`.
//!
//! All nodes share one read-only file. The data comes from the page cache of the host instead of passing
//! through the emulated network packet by packet. Sources: Talos v1.11,
//! `internal/app/machined/pkg/controllers/cri/image_cache_config.go` (disk discovery),
//! `internal/app/machined/pkg/system/services/registry` (file access).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use lab_model::Digest;
use oci_client::{Reference, manifest::OciManifest};
use sha2::{Digest as _, Sha256};

use super::store::Store;

/// The file system label. Talos requires the first six characters.
const LABEL: [u8; 11] = *b"TALOS_LAB  ";

/// The cluster size. Layers are large, and large clusters speed up sequential reads.
const CLUSTER: u32 = 32 << 10;

/// A minimum cluster count. A file system with fewer clusters would be FAT12 (Microsoft's FAT
/// specification, section 3.5: 4085), which is unusual on a disk.
const LEAST_CLUSTERS: u64 = 4200;

/// Clusters per file: rounding loss and directory entries, with a margin for the tables.
const CLUSTERS_PER_FILE: u64 = 3;

/// The maximum file size in FAT.
const LARGEST_FILE: u64 = u32::MAX as u64;

/// The reason the disk cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CacheDiskError {
    /// The store does not have the complete image.
    #[error("put {image} on the image disk: {problem}")]
    Image {
        /// The reference of the image.
        image: String,
        problem: String,
    },
    /// The disk file cannot be written.
    #[error("make the image disk {}: {source}", path.display())]
    File {
        /// The path of the disk file.
        path: PathBuf,
        source: io::Error,
    },
}

/// Creates a disk with `images` from `store` in `directory`, if it does not exist. The file name is the
/// digest of the disk content. The disk omits images of registries with a port, because FAT names cannot
/// contain colons. Nodes pull those images from the mirror.
///
/// # Errors
/// Returns an error if the store lacks a part of an image, or if the disk cannot be written.
pub fn cache_disk(
    store: &Store,
    images: &BTreeSet<String>,
    directory: &Path,
) -> Result<PathBuf, CacheDiskError> {
    let mut content = DiskContent::default();
    for image in images {
        content.add(store, image)?;
    }
    let path = directory.join(format!("{}.img", content.identity()));
    if path.exists() {
        return Ok(path);
    }
    let failed = |source| CacheDiskError::File { path: path.clone(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    let partial = tempfile::Builder::new().prefix(".partial-").tempfile_in(directory).map_err(failed)?;
    content.write(partial.as_file()).map_err(failed)?;
    partial.persist(&path).map_err(|error| failed(error.error))?;
    Ok(path)
}

/// The disk content. Maps each file name below `imagecache/` to its content in the store.
#[derive(Default)]
struct DiskContent(BTreeMap<String, DiskFile>);

struct DiskFile {
    path: PathBuf,
    size: u64,
}

impl DiskContent {
    fn add(&mut self, store: &Store, image: &str) -> Result<(), CacheDiskError> {
        let wrong = |problem: String| CacheDiskError::Image { image: image.to_owned(), problem };
        let reference: Reference = image.parse().map_err(|error| wrong(format!("{error}")))?;
        let (registry, repository) = (reference.registry(), reference.repository());
        if registry.contains(':') {
            return Ok(());
        }
        let found = match reference.digest() {
            Some(digest) => {
                Digest::parse(digest).ok_or_else(|| wrong(format!("{digest} is not a digest")))?
            }
            None => store.manifest(image).cloned().ok_or_else(|| wrong("it is not in the mirror".into()))?,
        };
        let directory = format!("manifests/{registry}/{repository}");
        if let (None, Some(tag)) = (reference.digest(), reference.tag()) {
            self.insert(store, format!("{directory}/reference/{tag}"), &found).map_err(wrong)?;
        }
        let mut manifests = vec![found];
        while let Some(digest) = manifests.pop() {
            let name = format!("{directory}/digest/{}", file_name(&digest));
            let file = self.insert(store, name, &digest).map_err(wrong)?;
            let text = fs::read(&file).map_err(|error| wrong(format!("read {}: {error}", file.display())))?;
            match serde_json::from_slice(&text) {
                Ok(OciManifest::ImageIndex(index)) => {
                    let entries = index.manifests.iter().filter_map(|entry| Digest::parse(&entry.digest));
                    manifests.extend(entries.filter(|digest| file_of(store, digest).is_some()));
                }
                Ok(OciManifest::Image(manifest)) => {
                    for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                        let digest = Digest::parse(&part.digest)
                            .ok_or_else(|| wrong(format!("its part {} has no digest", part.digest)))?;
                        self.insert(store, format!("blob/{}", file_name(&digest)), &digest).map_err(wrong)?;
                    }
                }
                Err(error) => return Err(wrong(format!("{digest} is not a manifest: {error}"))),
            }
        }
        Ok(())
    }

    fn insert(&mut self, store: &Store, name: String, digest: &Digest) -> Result<PathBuf, String> {
        let path = file_of(store, digest).ok_or_else(|| format!("the mirror lacks its part {digest}"))?;
        let size = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len();
        if size > LARGEST_FILE {
            return Err(format!("its part {digest} has {size} bytes; a FAT file has at most {LARGEST_FILE}"));
        }
        self.0.insert(name, DiskFile { path: path.clone(), size });
        Ok(path)
    }

    /// Hashes each file name on the disk with the name of its blob. The blob name is a digest, so the names
    /// identify the content.
    fn identity(&self) -> String {
        let mut hash = Sha256::new();
        for (name, blob) in &self.0 {
            hash.update(format!("{name} {}\n", blob.path.file_name().unwrap_or_default().to_string_lossy()));
        }
        hex::encode(hash.finalize())
    }

    fn write(&self, file: &fs::File) -> io::Result<()> {
        let clusters: u64 = self
            .0
            .values()
            .map(|blob| blob.size.div_ceil(u64::from(CLUSTER)) + CLUSTERS_PER_FILE)
            .sum::<u64>()
            .max(LEAST_CLUSTERS);
        // The additional sixteenth is far larger than both tables. Unwritten space is a hole in the file.
        file.set_len((clusters + clusters / 16) * u64::from(CLUSTER))?;
        let mut disk = fscommon::BufStream::new(file);
        let options = FormatVolumeOptions::new().bytes_per_cluster(CLUSTER).volume_label(LABEL);
        fatfs::format_volume(&mut disk, options)?;
        let disk = FileSystem::new(disk, FsOptions::new())?;
        let cache = disk.root_dir().create_dir("imagecache")?;
        let mut made = BTreeSet::new();
        for (name, blob) in &self.0 {
            for (end, _) in name.match_indices('/') {
                if made.insert(&name[..end]) {
                    cache.create_dir(&name[..end])?;
                }
            }
            io::copy(&mut fs::File::open(&blob.path)?, &mut cache.create_file(name)?)?;
        }
        drop(cache);
        disk.unmount()
    }
}

fn file_name(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

fn file_of(store: &Store, digest: &Digest) -> Option<PathBuf> {
    store.files(digest).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::images::{Descriptor, INDEX_TYPE, LAYER_TYPE, Layout, MANIFEST_TYPE, index_of};

    /// Creates a layout with one image behind an index, as in registries.
    fn layout(directory: &Path) -> Digest {
        let layout = Layout::new(directory);
        let layer = layout.put(LAYER_TYPE, &[7; 100_000]).expect("layer");
        let image = layout.put_image(&serde_json::json!({}), std::slice::from_ref(&layer)).expect("image");
        let absent = Digest::parse(&format!("sha256:{}", "0".repeat(64))).expect("digest");
        let index = index_of(&[
            image.for_architecture("arm64"),
            Descriptor::new(MANIFEST_TYPE, &absent, 1).for_architecture("amd64"),
        ]);
        let index = layout.put(INDEX_TYPE, index.to_string().as_bytes()).expect("index");
        layout.write_index(&[index.named("lab.local/team/app:v1")]).expect("index");
        layer.digest().expect("a digest")
    }

    fn images(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_image_lies_where_talos_looks_for_it() {
        let directory = tempfile::tempdir().expect("tempdir");
        let layer = layout(directory.path());
        let store = Store::open(&[directory.path().to_owned()]).expect("open");
        let disks = directory.path().join("disks");
        let path = cache_disk(&store, &images(&["lab.local/team/app:v1"]), &disks).expect("disk");
        let disk = FileSystem::new(
            fs::File::options().read(true).write(true).open(&path).expect("open"),
            FsOptions::new(),
        )
        .expect("a FAT file system");
        assert_eq!(disk.volume_label(), "TALOS_LAB");
        let cache = disk.root_dir().open_dir("imagecache").expect("imagecache");
        let mut found = Vec::new();
        cache
            .open_file(&format!("blob/{}", file_name(&layer)))
            .expect("layer")
            .read_to_end(&mut found)
            .expect("read");
        assert_eq!(found, [7; 100_000]);
        let mut tag = Vec::new();
        let mut file = cache.open_file("manifests/lab.local/team/app/reference/v1").expect("tag");
        file.read_to_end(&mut tag).expect("read");
        let digest = hex::encode(Sha256::digest(&tag));
        let by_digest = format!("manifests/lab.local/team/app/digest/sha256-{digest}");
        assert!(cache.open_file(&by_digest).is_ok(), "{by_digest}");
        let manifests = cache.open_dir("manifests/lab.local/team/app/digest").expect("digests");
        let names = manifests.iter().flatten().filter(fatfs::DirEntry::is_file).count();
        assert_eq!(names, 2, "the index and the one manifest that the mirror holds");
    }

    #[test]
    fn the_same_images_are_the_same_disk_and_others_another() {
        let directory = tempfile::tempdir().expect("tempdir");
        layout(directory.path());
        let store = Store::open(&[directory.path().to_owned()]).expect("open");
        let make = |names: &[&str]| cache_disk(&store, &images(names), directory.path()).expect("disk");
        let first = make(&["lab.local/team/app:v1"]);
        let modified = fs::metadata(&first).and_then(|m| m.modified()).expect("stat");
        assert_eq!(make(&["lab.local/team/app:v1", "host:5000/elsewhere:v1"]), first);
        assert_eq!(fs::metadata(&first).and_then(|m| m.modified()).expect("stat"), modified);
        assert_ne!(make(&[]), first);
    }

    #[test]
    fn an_image_that_is_not_whole_is_named_with_its_missing_part() {
        let directory = tempfile::tempdir().expect("tempdir");
        let layer = layout(directory.path());
        let store = Store::open(&[directory.path().to_owned()]).expect("open");
        let disks = directory.path().join("disks");
        let error = cache_disk(&store, &images(&["lab.local/other:v1"]), &disks).expect_err("not there");
        assert!(
            error.to_string().contains("lab.local/other:v1 on the image disk: it is not in the mirror"),
            "{error}"
        );
        fs::remove_file(file_of(&store, &layer).expect("blob")).expect("remove");
        let error = cache_disk(&store, &images(&["lab.local/team/app:v1"]), &disks).expect_err("not whole");
        assert!(error.to_string().contains(&format!("lacks its part {layer}")), "{error}");
        assert!(!disks.exists(), "nothing is left half-made");
    }
}
