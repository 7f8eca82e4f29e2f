//! The checksum files of an image, in all supported forms.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{checksums::Checksums, layout::Found};
use crate::AssetError;

/// Checksum files for complete directories.
const LISTS: [&str; 2] = ["checksums.sha256", "SHA256SUMS"];
/// A limit in bytes, above the size of any checksum file.
const LIMIT: u64 = 4 << 20;

/// Reads the checksum files of an image. Paths are relative to the image root. Returns `None` if there is
/// no checksum file.
pub(super) fn promised(found: &Found) -> Result<Option<Checksums>, AssetError> {
    let mut all: Option<Checksums> = None;
    let mut take = |more: Checksums| all.get_or_insert_default().take(more);
    for list in LISTS {
        if let Some(mut checksums) = read(&found.root, &found.root.join(list), Checksums::parse)? {
            if found.shares_checksums {
                checksums.keep(|path| found.files.iter().any(|file| found.name_of(file) == path));
            }
            take(checksums);
        }
    }
    for file in &found.files {
        let mut beside = file.clone().into_os_string();
        beside.push(".sha256");
        let path = found.name_of(file);
        let of_one = |text: &str| Checksums::of_one_file(text, &path);
        if let Some(checksums) = read(&found.root, &PathBuf::from(beside), of_one)? {
            take(checksums);
        }
    }
    Ok(all)
}

fn read(
    root: &Path,
    path: &Path,
    parse: impl Fn(&str) -> Result<Checksums, super::ChecksumFault>,
) -> Result<Option<Checksums>, AssetError> {
    let text = fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(LIMIT).read_to_string(&mut text).map(|_| text)
    });
    match text {
        Ok(text) => {
            parse(&text).map(Some).map_err(|fault| AssetError::Checksum { directory: root.to_owned(), fault })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AssetError::file("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DiskCache, NodeImage};
    use lab_model::Digest;

    fn line(content: &str, path: &str) -> String {
        format!("{}  {path}\n", Digest::of_bytes(content.as_bytes()).hex())
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("tempdir");
        for (name, content) in files {
            fs::write(directory.path().join(name), content).expect("write");
        }
        directory
    }

    #[test]
    fn a_file_beside_each_file_will_do_with_and_without_a_name() {
        let (kernel, initramfs) = (line("k", "_out/vmlinuz"), line("i", ""));
        let files = [
            ("vmlinuz", "k"),
            ("initramfs.xz", "i"),
            ("vmlinuz.sha256", &kernel),
            ("initramfs.xz.sha256", initramfs.trim()),
        ];
        assert!(NodeImage::open(directory(&files).path(), &DiskCache::unused()).expect("open").verified);
        let only_one = directory(&files[..3]);
        let error =
            NodeImage::open(only_one.path(), &DiskCache::unused()).expect_err("uncovered").to_string();
        assert!(error.contains("initramfs.xz is not covered"), "{error}");
        let wrong = line("other", "vmlinuz");
        let files = [files[0], files[1], ("vmlinuz.sha256", wrong.as_str()), files[3]];
        assert!(
            NodeImage::open(directory(&files).path(), &DiskCache::unused())
                .expect_err("differs")
                .to_string()
                .contains("expected")
        );
    }

    #[test]
    fn a_releases_list_may_name_files_of_other_variants() {
        let names = ["talos-kernel-arm64-spin-v1", "talos-initramfs-arm64-spin-v1.xz"];
        let sums = line("k", names[0]) + &line("i", names[1]) + &line("x", "talos-metal-amd64.raw.xz");
        let release = directory(&[(names[0], "k"), (names[1], "i"), ("SHA256SUMS", &sums)]);
        assert!(NodeImage::open(release.path(), &DiskCache::unused()).expect("open").verified);
    }
}
