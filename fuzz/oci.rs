//! Readers of images in the OCI formats.

use std::{fs, path::Path};

use lab_model::{Digest, Source};
use lab_oci::images::{
    Image, Lock,
    fuzzed::{ImageFiles, challenge, extract, others},
};

/// Between the parts of an image; no text in UTF-8 has it.
const SEPARATOR: [u8; 2] = [0xff, 0xff];

/// An image: how it comes (0 a layout, 1 the same in an archive, 2 what `docker save` writes, 3 and
/// above an archive as it is), then its parts, each of which names the digest of the next one with
/// an `@`: digests that hold let the rest be read.
pub fn image(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let work = tempfile::tempdir().expect("a directory");
    let (from, into) = (work.path().join("from"), work.path().join("into"));
    fs::create_dir_all(&into).expect("mkdir");
    let files = match kind {
        0 | 1 => layout(data),
        2 => saved(data),
        _ => Vec::new(),
    };
    let content = match kind {
        0 => {
            for (name, bytes) in &files {
                let path = from.join(name);
                fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
                fs::write(path, bytes).expect("write");
            }
            Ok(ImageFiles::directory(&from))
        }
        _ => {
            fs::write(&from, if files.is_empty() { data.to_vec() } else { archive(&files) }).expect("write");
            ImageFiles::archive(&from, work.path())
        }
    };
    if let Ok(content) = content
        && let Ok(Some(image)) = Image::within(&content)
    {
        let _ = extract(&image, &content, |_| true, &into);
    }
    let mut left: Vec<_> = names(work.path());
    left.sort();
    assert!(left == ["from", "into"] || left == ["into"], "something was written outside: {left:?}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("list").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The parts, the last one first, each with the digest of the one behind it in place of `@`.
fn linked<const N: usize>(data: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut rest = data;
    while parts.len() + 1 < N
        && let Some(at) = rest.windows(2).position(|pair| pair == SEPARATOR)
    {
        parts.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    parts.push(rest);
    parts.resize(N, b"");
    let mut done: Vec<Vec<u8>> = Vec::new();
    for part in parts.iter().rev() {
        let digest = done.last().map(|next| Digest::of_bytes(next).to_string()).unwrap_or_default();
        done.push(part.split(|byte| *byte == b'@').collect::<Vec<_>>().join(digest.as_bytes()));
    }
    done
}

/// Index, manifest, config and layer. The manifest names both the config and, as `#`, the layer.
fn layout(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let parts: [Vec<u8>; 4] = linked::<4>(data).try_into().unwrap_or_default();
    let [layer, config, manifest, index] = parts;
    let digest = Digest::of_bytes(&layer).to_string();
    let named: Vec<_> = manifest.split(|byte| *byte == b'#').collect();
    let (old, manifest) = (Digest::of_bytes(&manifest).to_string(), named.join(digest.as_bytes()));
    let index = String::from_utf8_lossy(&index).replace(&old, &Digest::of_bytes(&manifest).to_string());
    let blob = |content: Vec<u8>| (format!("blobs/sha256/{}", Digest::of_bytes(&content).hex()), content);
    vec![("index.json".to_owned(), index.into_bytes()), blob(manifest), blob(config), blob(layer)]
}

/// Manifest, config and layer.
fn saved(data: &[u8]) -> Vec<(String, Vec<u8>)> {
    let parts: [Vec<u8>; 3] = linked::<3>(data).try_into().unwrap_or_default();
    let [layer, config, manifest] = parts;
    let files = [("manifest.json", manifest), ("c.json", config), ("l/layer.tar", layer)];
    files.map(|(name, content)| (name.to_owned(), content)).into()
}

/// A tar archive of files.
pub fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &content[..]).expect("append");
    }
    archive.into_inner().expect("archive")
}

/// What a person writes for an image, and a lock file: the first line and the rest.
pub fn lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (reference, text) = text.split_once('\n').unwrap_or((text, ""));
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("write");
    let lock = Lock::read(file.path());
    if let Ok(Source::Registry(reference)) = Source::parse(reference) {
        let again = Source::parse(&reference.whole());
        assert!(again.is_ok(), "{reference} is no reference when written again");
        for other in others(&reference) {
            assert_ne!(other.repository(), reference.repository());
        }
        if let Ok(lock) = lock {
            let _ = lock.digest(&reference);
        }
    }
}

/// The header in which a registry names its token service.
pub fn challenged(data: &[u8]) {
    if let Ok(header) = std::str::from_utf8(data) {
        challenge(header);
    }
}
