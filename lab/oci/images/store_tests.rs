//! Tests every layout of boot files with every image source, including error cases.

use std::{fs, path::Path};

use lab_image::NodeImage;
use lab_image_fixtures::{BootFiles, LAYOUTS, OwnedFiles, gzip, initramfs, kernel};
use serde_json::json;

use super::*;
use crate::registry::{Registry, Store};

/// The files of a layer. A file without content is a whiteout.
type Files = Vec<(String, Option<Vec<u8>>)>;

fn layer(files: &Files) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        let content = content.as_deref().unwrap_or_default();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).expect("append");
    }
    archive.into_inner().expect("layer")
}

/// Writes an OCI image layout with one image: its `layers`, `platform` and `name`.
fn oci_layout(layers: &[Files], platform: &str, name: &str, into: &Path) -> Digest {
    let layout = Layout::new(into);
    let config = json!({ "architecture": platform, "os": "linux", "created": "2026-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": [] } });
    let gzipped =
        |files: &Files| layout.put("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(&layer(files)));
    let layers: Vec<_> = layers.iter().map(|files| gzipped(files).expect("layer")).collect();
    let image = layout.put_image(&config, &layers).expect("image").for_architecture(platform).named(name);
    let digest = image.digest().expect("digest");
    // Two images with the same name have different architectures.
    let mut images = layout.images_so_far().expect("index");
    images.push(image);
    layout.write_index(&images).expect("index");
    digest
}

/// Creates an archive in the `docker save` format.
fn docker_archive(files: &Files) -> Vec<u8> {
    let content = layer(files);
    let config = json!({ "architecture": "arm64", "created": "2026-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of_bytes(&content).to_string()] } })
    .to_string()
    .into_bytes();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["talos:v1"], "Layers": ["l/layer.tar"] }]);
    let manifest = manifest.to_string().into_bytes();
    let parts = [("c.json", config), ("l/layer.tar", content), ("manifest.json", manifest)];
    layer(&parts.into_iter().map(|(name, content)| (name.to_owned(), Some(content))).collect())
}

fn boot_files() -> BootFiles {
    BootFiles { kernel: kernel(), initramfs: initramfs(&[("spin", &[])]) }
}

fn file(path: &str, content: &[u8]) -> (String, Option<Vec<u8>>) {
    (path.to_owned(), Some(content.to_vec()))
}

/// Converts files to a layer without whiteouts.
fn files(owned: OwnedFiles) -> Files {
    owned.into_iter().map(|(path, content)| (path, Some(content))).collect()
}

fn write(files: &Files, into: &Path) {
    for (path, content) in files {
        let path = into.join(path);
        fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
        fs::write(path, content.as_deref().unwrap_or_default()).expect("write");
    }
}

async fn served(layout: &Path) -> Registry {
    Registry::start(Store::open(&[layout.to_owned()]).expect("store")).await.expect("registry")
}

fn reference(registry: &Registry, name: &str) -> Source {
    Source::parse(&format!("{}/{name}", registry.address())).expect("reference")
}

#[tokio::test]
async fn every_layout_comes_by_every_way() {
    let boot = boot_files();
    for (layout, files_of) in LAYOUTS {
        let files = files(files_of(&boot));
        let work = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::new(work.path().join("cache"), Lock::default());
        let (plain, oci) = (work.path().join("plain"), work.path().join("oci"));
        write(&files, &plain);
        oci_layout(std::slice::from_ref(&files), "arm64", "docker.io/talos:v1", &oci);
        let docker = work.path().join("saved.tar.gz");
        fs::write(&docker, gzip(&docker_archive(&files))).expect("write");
        let archive = work.path().join("layout.tar");
        let mut packed = tar::Builder::new(fs::File::create(&archive).expect("create"));
        packed.append_dir_all(".", &oci).and_then(|()| packed.finish()).expect("pack");
        let registry = served(&oci).await;
        let paths = [plain, oci, docker, archive].map(Source::Path);
        for source in paths.into_iter().chain([reference(&registry, "talos:v1")]) {
            let resolved = store.resolve(&source).await.unwrap_or_else(|error| panic!("{source}: {error}"));
            let image = NodeImage::open(&resolved.path, &store.disks())
                .unwrap_or_else(|error| panic!("{source}: {error}"));
            assert_eq!(image.found.layout, layout, "{source}");
            let content = [&boot.kernel, &boot.initramfs].map(|bytes| Digest::of_bytes(bytes));
            let parts = [&image.found.kernel, &image.found.initramfs].map(|part| part.open().expect("open"));
            assert_eq!(parts.map(|part| Digest::of_reader(part).expect("read")), content, "{source}");
        }
    }
}

/// Creates the asset directory with `boot/`.
fn one() -> Files {
    let with_boot = LAYOUTS.into_iter().find(|(layout, _)| *layout == "asset directory with boot/");
    files(with_boot.expect("layout").1(&boot_files()))
}

#[tokio::test]
async fn a_multi_arch_index_gives_arm64_or_says_what_there_is() {
    let work = tempfile::tempdir().expect("tempdir");
    let store = ImageStore::new(work.path().join("cache"), Lock::default());
    let both = work.path().join("both");
    oci_layout(&[vec![file("usr/install/amd64/vmlinuz", b"x86")]], "amd64", "docker.io/talos:v1", &both);
    let arm64 = oci_layout(&[one()], "arm64", "docker.io/talos:v1", &both);
    let resolved = store.resolve(&Source::Path(both)).await.expect("arm64");
    assert_eq!(resolved.origin.digest, Some(arm64));
    assert_eq!(resolved.origin.created.as_deref(), Some("2026-01-02T03:04:05Z"));
    let other = work.path().join("other");
    oci_layout(&[one()], "amd64", "docker.io/talos:v1", &other);
    let error = store.resolve(&Source::Path(other)).await.expect_err("amd64").to_string();
    assert!(error.contains("no image for linux/arm64, only for: linux/amd64"), "{error}");
}

#[tokio::test]
async fn upper_layers_replace_and_remove_what_lower_ones_have() {
    let work = tempfile::tempdir().expect("tempdir");
    let store = ImageStore::new(work.path().join("cache"), Lock::default());
    let lower = vec![
        file("boot/vmlinuz", b"old"),
        file("boot/initramfs.xz", b"i"),
        file("vmlinuz", b"k"),
        file("boot/sub/x", b"x"),
    ];
    let upper =
        vec![file("boot/vmlinuz", b"new"), file("boot/sub/.wh..wh..opq", b""), file(".wh.vmlinuz", b"")];
    let path = work.path().join("oci");
    oci_layout(&[lower, upper], "arm64", "docker.io/talos:v1", &path);
    let path = store.resolve(&Source::Path(path)).await.expect("resolve").path;
    assert_eq!(fs::read(path.join("boot/vmlinuz")).expect("read"), b"new");
    assert_eq!(fs::read(path.join("boot/initramfs.xz")).expect("read"), b"i");
    assert!(!path.join("vmlinuz").exists() && !path.join("boot/sub/x").exists());
}

#[tokio::test]
async fn one_changed_byte_is_found_wherever_it_is() {
    let work = tempfile::tempdir().expect("tempdir");
    let store = ImageStore::new(work.path().join("cache"), Lock::default());
    let path = work.path().join("oci");
    oci_layout(&[one()], "arm64", "docker.io/talos:v1", &path);
    let taken = store.resolve(&Source::Path(path.clone())).await.expect("resolve").path;
    for blob in fs::read_dir(path.join("blobs/sha256")).expect("list").flatten() {
        let whole = fs::read(blob.path()).expect("read");
        let mut damaged = whole.clone();
        // In text, change a digest or a name, so that the JSON stays valid. In a layer, any position is
        // suitable.
        let at = whole.len() / 2;
        damaged[at] ^= 1;
        fs::write(blob.path(), damaged).expect("write");
        let error = store.resolve(&Source::Path(path.clone())).await.expect_err("damaged").to_string();
        assert!(error.contains("fetch the image again") || error.contains("damaged"), "{error}");
        fs::write(blob.path(), whole).expect("write");
    }
    // The store also verifies extracted files, and extracts damaged files again.
    let kernel = taken.join("assets/talos/arm64/boot/vmlinuz");
    fs::write(&kernel, "changed").expect("write");
    store.resolve(&Source::Path(path)).await.expect("again");
    assert_ne!(fs::read(kernel).expect("read"), b"changed");
}

#[tokio::test]
async fn a_pinned_reference_needs_no_network_and_a_tag_falls_back_to_what_it_was() {
    let work = tempfile::tempdir().expect("tempdir");
    let layout = work.path().join("oci");
    let digest = oci_layout(&[one()], "arm64", "docker.io/talos:v1", &layout);
    let registry = served(&layout).await;
    let source = reference(&registry, "talos:v1");
    let cache = work.path().join("cache");
    let store = ImageStore::new(&cache, Lock::default());
    let online = store.resolve(&source).await.expect("online");
    assert!(online.origin.mutable && online.origin.notes.is_empty());
    // The store fetches each damaged blob in the cache again.
    for blob in fs::read_dir(cache.join("oci/blobs/sha256")).expect("list").flatten() {
        fs::write(blob.path(), "damaged").expect("write");
        fs::remove_dir_all(&online.path).expect("remove");
        store.resolve(&source).await.unwrap_or_else(|error| panic!("{}: {error}", blob.path().display()));
    }
    let Source::Registry(name) = &source else { panic!("a path") };
    let mut lock = Lock::read(work.path().join("images.lock.yaml")).expect("lock");
    lock.pin(name, &online.origin);
    drop(registry);

    let offline = store.resolve(&source).await.expect("offline");
    assert!(offline.origin.notes[0].contains("could not be reached"), "{:?}", offline.origin.notes);
    let pinned = ImageStore::new(&cache, lock).resolve(&source).await.expect("pinned");
    assert!(!pinned.origin.mutable);
    assert!(pinned.origin.notes[0].starts_with(&format!("pinned to {digest}")), "{:?}", pinned.origin.notes);
    let unknown = Source::parse(&source.to_string().replace("talos", "other")).expect("reference");
    let error = store.resolve(&unknown).await.expect_err("unknown").to_string();
    assert!(error.contains("is not in the cache, and its registry could not be reached"), "{error}");
}

#[tokio::test]
async fn a_name_of_former_times_is_told_and_not_taken() {
    let work = tempfile::tempdir().expect("tempdir");
    let layout = work.path().join("oci");
    oci_layout(&[one()], "arm64", "docker.io/urmanac/talos-cozystack-spin-only/talos:v1", &layout);
    let registry = served(&layout).await;
    let store = ImageStore::new(work.path().join("cache"), Lock::default());
    let new = reference(&registry, "urmanac/cozystack-assets/talos/cozystack-spin-only/talos:v1");
    let error = store.resolve(&new).await.expect_err("another name").to_string();
    assert!(error.contains("but it has 127.0.0.1:"), "{error}");
    assert!(error.contains("/urmanac/talos-cozystack-spin-only/talos:v1: use that name"), "{error}");
    let gone = reference(&registry, "other:v1");
    let error = store.resolve(&gone).await.expect_err("gone").to_string();
    assert!(error.contains("the registry has no 127.0.0.1:"), "{error}");
}
