//! Removes a system extension from an initramfs, to test that checks detect a missing extension.
//!
//! The kernel unpacks consecutive archives over each other (Linux
//! Documentation/driver-api/early-userspace/buffer-format.rst). It is therefore sufficient to append an
//! archive with a new `extensions.yaml` to the unchanged archive.

use std::{
    fs,
    io::{BufReader, Read, Write},
    path::Path,
};

use super::archive::Archives;
use crate::AssetError;

/// The file in the initramfs that lists the layers.
const LIST: &str = "extensions.yaml";
/// A limit in bytes, above the size of any list.
const LIST_LIMIT: u64 = 1 << 20;

/// Writes the unpacked initramfs `from`, without the extension `name`, to `to`.
///
/// # Errors
/// Returns an error if a file cannot be read or written, or if the extension does not exist.
pub fn without_extension(from: &Path, name: &str, to: &Path) -> Result<(), AssetError> {
    let broken = |text: String| AssetError::File {
        action: "edit",
        path: from.to_owned(),
        source: std::io::Error::other(text),
    };
    let list = shortened(&read_list(from)?, name).map_err(broken)?;
    fs::copy(from, to).map_err(AssetError::file("write", to))?;
    let entry = cpio::NewcBuilder::new(LIST).mode(0o100_644);
    let archive =
        cpio::write_cpio(std::iter::once((entry, std::io::Cursor::new(list.into_bytes()))), Vec::new())
            .map_err(AssetError::file("edit", from))?;
    let mut file = fs::OpenOptions::new().append(true).open(to).map_err(AssetError::file("open", to))?;
    // Archives start at multiples of four bytes.
    let length = file.metadata().map_err(AssetError::file("read", to))?.len();
    let padding = vec![0; (length.next_multiple_of(4) - length) as usize];
    file.write_all(&padding).and_then(|()| file.write_all(&archive)).map_err(AssetError::file("write", to))
}

fn read_list(initramfs: &Path) -> Result<Vec<u8>, AssetError> {
    let file = fs::File::open(initramfs).map_err(AssetError::file("open", initramfs))?;
    let mut archives = Archives::new(BufReader::with_capacity(1 << 20, file), 4 << 30);
    let mut list = Vec::new();
    let fail = |error: super::archive::ArchiveError| AssetError::File {
        action: "read",
        path: initramfs.to_owned(),
        source: std::io::Error::other(error.to_string()),
    };
    while !archives.peek().map_err(fail)?.is_empty() {
        archives
            .read(|entry, data| {
                if entry.name == LIST {
                    list.clear();
                    data.take(LIST_LIMIT).read_to_end(&mut list)?;
                }
                Ok(())
            })
            .map_err(fail)?;
    }
    Ok(list)
}

/// Removes the layer of the extension `name` from the list.
fn shortened(list: &[u8], name: &str) -> Result<String, String> {
    let mut value: serde_json::Value = serde_yaml::from_slice(list).map_err(|error| error.to_string())?;
    let layers = value.get_mut("layers").and_then(serde_json::Value::as_array_mut);
    let layers = layers.ok_or("extensions.yaml has no layers")?;
    let before = layers.len();
    layers.retain(|layer| layer["metadata"]["name"].as_str() != Some(name));
    if layers.len() == before {
        return Err(format!("the image has no extension {name}"));
    }
    serde_yaml::to_string(&value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Extension;

    #[test]
    fn the_later_archive_lists_one_extension_less() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let list =
            "layers:\n- {image: 0.sqsh, metadata: {name: drbd}}\n- {image: 1.sqsh, metadata: {name: spin}}\n";
        let entry =
            (cpio::NewcBuilder::new(LIST).mode(0o100_644), std::io::Cursor::new(list.as_bytes().to_vec()));
        fs::write(&from, cpio::write_cpio(std::iter::once(entry), Vec::new()).expect("archive"))
            .expect("write");
        without_extension(&from, "spin", &to).expect("edit");
        let left = Extension::parse(&read_list(&to).expect("list")).expect("parse");
        assert_eq!(left.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["drbd"]);
        let error = without_extension(&from, "zfs", &to).expect_err("zfs").to_string();
        assert!(error.contains("no extension zfs"), "{error}");
    }
}
