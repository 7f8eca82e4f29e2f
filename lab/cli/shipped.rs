//! What is in the directory of images: for `lab doctor` and `lab --version`, which have nothing else to start.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lab::places::Places;
use lab_image::{Checksums, DiskCache, NodeImage};
use lab_model::{Digest, files::read_text_bounded, node::Role};
use lab_vm::host::ImagesFound;

use super::places::ImagesDirectory;

/// The roles of the reference node.
const ROLES: [&str; 2] = [Role::COMPUTE, Role::GATEWAY];
/// The images that nodes pull.
const WORKLOADS: &str = "workloads";
/// The checksums of a release archive, in the directory above the images. They cover everything below that directory.
const CHECKSUMS: &str = "SHA256SUMS";
/// The largest list of checksums, in bytes.
const LARGEST_LIST: u64 = 4 << 20;

/// Looks at the images, and at every file that came with the program. Reads all of them.
pub(super) fn images_found(images: &ImagesDirectory) -> ImagesFound {
    let directory = match images.path() {
        Ok(directory) if directory.is_dir() => directory,
        Ok(directory) => {
            let why = format!(
                "{} is no directory; name with --images where the images are, or build them with: make images",
                directory.display()
            );
            return ImagesFound::Absent(why);
        }
        Err(none) => return ImagesFound::Absent(none.message),
    };
    let came = Places::here().came_with_the_program(&directory);
    let checked = if came { intact(&directory) } else { Ok(()) };
    match checked.and_then(|()| usable(&directory)) {
        Ok(()) if came => ImagesFound::Usable(format!("{}, as released", directory.display())),
        Ok(()) => ImagesFound::Usable(directory.display().to_string()),
        Err(cause) => ImagesFound::Damaged(cause),
    }
}

/// The long form of the version: the images that a run without options would use, with their digests as in its plan.
pub(super) fn version_with_images() -> String {
    let mut text = format!("lab {}\n", env!("CARGO_PKG_VERSION"));
    let directory = match Places::here().images() {
        Ok(directory) => directory,
        Err(none) => return text + &format!("images: none ({none})\n"),
    };
    text += &format!("images: {}\n", directory.display());
    for name in ROLES {
        text += &match opened(&directory.join(name)) {
            Ok(image) => format!("{name:<10} {}\n", image.digest),
            Err(cause) => format!("{name:<10} unusable: {cause}\n"),
        };
    }
    text + &match workloads(&directory) {
        Ok(digest) => format!("{WORKLOADS:<10} {digest}\n"),
        Err(cause) => format!("{WORKLOADS:<10} unusable: {cause}\n"),
    }
}

/// Compares every file that came with the program with its checksum.
fn intact(images: &Path) -> Result<(), String> {
    let root = images.parent().unwrap_or(images);
    let list = root.join(CHECKSUMS);
    let text = read_text_bounded(&list, LARGEST_LIST).map_err(|error| at("read", &list, &error))?;
    let checksums = Checksums::parse(&text).map_err(|fault| format!("{}: {fault}", list.display()))?;
    let paths: Vec<_> = checksums.paths().collect();
    if paths.is_empty() {
        return Err(format!("{} lists no file", list.display()));
    }
    for path in paths {
        let file = root.join(path);
        let digest =
            fs::File::open(&file).and_then(Digest::of_reader).map_err(|error| at("read", &file, &error))?;
        checksums.verify(path, &digest).map_err(|fault| format!("{}: {fault}", root.display()))?;
    }
    Ok(())
}

/// Opens the images of all roles. A project may have built only some of them.
fn usable(images: &Path) -> Result<(), String> {
    let built: Vec<PathBuf> =
        ROLES.iter().map(|role| images.join(role)).filter(|image| image.exists()).collect();
    if built.is_empty() {
        return Err(format!("{} has no image of a role ({})", images.display(), ROLES.join(", ")));
    }
    built.iter().try_for_each(|image| opened(image).map(|_| ()))?;
    workloads(images).map(|_| ())
}

fn opened(image: &Path) -> Result<NodeImage, String> {
    // No built image is on a disk image, so nothing is unpacked there.
    let disks = DiskCache::new(Places::here().runs().join("cache/disks"));
    NodeImage::open(image, &disks).map_err(|error| lab_model::words::chain(&error))
}

/// The digest of the index of the workload images, which has the digests of everything else.
fn workloads(images: &Path) -> Result<Digest, String> {
    let index = images.join(WORKLOADS).join("index.json");
    fs::File::open(&index).and_then(Digest::of_reader).map_err(|error| at("read", &index, &error))
}

fn at(action: &str, path: &Path, error: &std::io::Error) -> String {
    format!("{action} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory of a release archive with one file, and its checksum.
    fn released() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("directory");
        fs::create_dir_all(root.path().join("images/tailnet")).expect("directory");
        fs::write(root.path().join("images/tailnet/headscale"), "program").expect("file");
        let line = format!("{}  images/tailnet/headscale\n", Digest::of_bytes(b"program").hex());
        fs::write(root.path().join(CHECKSUMS), line).expect("list");
        root
    }

    #[test]
    fn a_file_that_is_missing_or_changed_is_named() {
        let root = released();
        let images = root.path().join("images");
        assert_eq!(intact(&images), Ok(()));
        fs::write(images.join("tailnet/headscale"), "another").expect("file");
        assert!(intact(&images).expect_err("changed").contains("images/tailnet/headscale has sha256:"));
        fs::remove_file(images.join("tailnet/headscale")).expect("removed");
        let told = intact(&images).expect_err("missing");
        assert!(told.starts_with("read ") && told.contains("tailnet/headscale: No such file"), "{told}");
    }

    #[test]
    fn a_list_that_says_nothing_is_no_proof() {
        let root = released();
        let images = root.path().join("images");
        for text in ["", "not a checksum\n", "0000  ../outside\n"] {
            fs::write(root.path().join(CHECKSUMS), text).expect("list");
            assert!(intact(&images).is_err(), "{text:?}");
        }
        fs::remove_file(root.path().join(CHECKSUMS)).expect("removed");
        assert!(intact(&images).expect_err("no list").contains("SHA256SUMS"));
    }
}
