//! Extracts files from the layers of an image. Upper layers override lower layers.
//!
//! Whiteouts: OCI image specification v1.1, layer.md.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Component, Path},
};

use lab_image::{Compression, Hashed, unpacked};
use lab_model::files::is_exhausted;

use super::{
    content::ImageFiles,
    error::OciError,
    image::{Image, ImageLayer, Proof},
    tar_files::each,
};

/// A limit in bytes, above the unpacked size of all layers of any node image together.
const LIMIT: u64 = 8 << 30;
/// The maximum memory for the paths that the layers provide or hide, in bytes.
const PATHS_LIMIT: usize = 32 << 20;
/// The memory of a path in addition to its text, in bytes.
const PER_PATH: usize = 64;
/// The name prefix of a whiteout.
const WHITEOUT: &str = ".wh.";
/// The name of the whiteout that hides all lower-layer entries of its directory.
const OPAQUE: &str = ".wh..wh..opq";

/// Writes the `wanted` files of an image below the directory `into`.
///
/// # Errors
/// Returns an error if a layer is missing, is damaged or does not match its digest, or if a file cannot be
/// written.
pub fn extract(
    image: &Image,
    content: &ImageFiles,
    wanted: impl Fn(&str) -> bool,
    into: &Path,
) -> Result<(), OciError> {
    let mut hidden = Hidden::default();
    let mut left = LIMIT;
    for layer in image.layers.iter().rev() {
        // A full disk is not an error of the image.
        let fail = |error: io::Error| match is_exhausted(&error) {
            true => OciError::file("unpack an image into", into)(error),
            false => content.damaged(&layer.name, error),
        };
        let mut below = hidden.clone();
        let digest = match &layer.proof {
            Proof::Packed(_) => {
                let mut packed = BufReader::new(Hashed::new(content.open(&layer.name)?));
                let compression = Compression::detect(packed.fill_buf().map_err(fail)?);
                let unpacked = unpacked(compression, &mut packed).map_err(fail)?;
                take(Within { input: unpacked, left: &mut left }, &wanted, into, &hidden, &mut below)
                    .map_err(fail)?;
                packed.into_inner().digest()
            }
            Proof::Unpacked(_) => {
                let mut packed = BufReader::new(content.open(&layer.name)?);
                let compression = Compression::detect(packed.fill_buf().map_err(fail)?);
                let unpacked = unpacked(compression, packed).map_err(fail)?;
                let mut tar = Hashed::new(Within { input: unpacked, left: &mut left });
                take(&mut tar, &wanted, into, &hidden, &mut below).map_err(fail)?;
                tar.digest()
            }
        };
        hidden = below;
        prove(content, layer, &digest.map_err(fail)?)?;
    }
    Ok(())
}

fn prove(content: &ImageFiles, layer: &ImageLayer, found: &lab_model::Digest) -> Result<(), OciError> {
    let (Proof::Packed(promised) | Proof::Unpacked(promised)) = &layer.proof;
    if promised == found {
        return Ok(());
    }
    let why = format!("its content has {found}, expected {promised}; fetch the image again");
    Err(content.damaged(&layer.name, why))
}

/// A reader of a layer. It fails when the layers of the image have more data than any image has.
struct Within<'a, R> {
    input: R,
    /// What may still be read of all layers, in bytes.
    left: &'a mut u64,
}

impl<R: Read> Read for Within<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        *self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let why = format!("the layers unpack to more than {} GiB; those of no image do", LIMIT >> 30);
            io::Error::new(io::ErrorKind::FileTooLarge, why)
        })?;
        Ok(read)
    }
}

/// The paths that upper layers provide or hide.
#[derive(Clone, Default)]
struct Hidden {
    /// Hidden files and directories. A hidden directory also hides its contents.
    paths: BTreeSet<String>,
    /// The memory of all paths in bytes.
    memory: usize,
}

impl Hidden {
    fn hide(&mut self, path: String) -> io::Result<()> {
        self.memory += path.len() + PER_PATH;
        if self.memory > PATHS_LIMIT {
            let limit = PATHS_LIMIT >> 20;
            let why = format!("its paths need more than {limit} MiB; those of no image do");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        self.paths.insert(path);
        Ok(())
    }

    fn hides(&self, path: &str) -> bool {
        let mut parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.paths.contains("")
            || self.paths.contains(path)
            || parents.any(|parent| self.paths.contains(parent))
    }
}

/// Writes the wanted files of one layer that upper layers do not hide, and records the paths that this
/// layer hides.
fn take(
    tar: impl Read,
    wanted: &impl Fn(&str) -> bool,
    into: &Path,
    hidden: &Hidden,
    below: &mut Hidden,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(tar);
    each(archive.entries()?, |named, entry| {
        let written = named.path();
        let Some(path) = clean(Path::new(&written)) else {
            return Err(io::Error::other(format!("{written:?} leads out of the image")));
        };
        if let Some(removed) = removed(&path) {
            return below.hide(removed);
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() || !wanted(&path) || hidden.hides(&path) {
            return Ok(());
        }
        if kind.is_symlink() || kind.is_hard_link() {
            let target = String::from_utf8_lossy(named.link.as_deref().unwrap_or_default()).into_owned();
            return Err(io::Error::other(format!(
                "{path} is a link to {target}, and only plain files are read; copy the file instead of linking it"
            )));
        }
        let to = into.join(&path);
        if let Some(directory) = to.parent() {
            fs::create_dir_all(directory)?;
        }
        io::copy(entry, &mut File::create(&to)?)?;
        below.hide(path)
    })
}

/// Returns the path of lower layers that the whiteout `path` hides, with everything below it.
pub(crate) fn removed(path: &str) -> Option<String> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name == OPAQUE {
        return Some(parent.to_owned());
    }
    let removed = name.strip_prefix(WHITEOUT)?;
    Some(if parent.is_empty() { removed.to_owned() } else { format!("{parent}/{removed}") })
}

/// Returns the path without `./`, or `None` if the path leaves the image.
pub(crate) fn clean(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Creates a tar archive of files with these names, unmodified.
    fn archive(names: &[String]) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_old();
            let field = &mut header.as_old_mut().name;
            let length = name.len().min(field.len() - 1);
            field[..length].copy_from_slice(&name.as_bytes()[..length]);
            header.set_size(1);
            header.set_cksum();
            out.append(&header, &b"x"[..]).expect("append");
        }
        out.into_inner().expect("archive")
    }

    fn taken(tar: &[u8]) -> (tempfile::TempDir, io::Result<()>) {
        let outer = tempfile::tempdir().expect("tempdir");
        let into = outer.path().join("into");
        fs::create_dir(&into).expect("mkdir");
        let result = take(tar, &|_: &str| true, &into, &Hidden::default(), &mut Hidden::default());
        (outer, result)
    }

    #[test]
    fn a_name_that_leads_out_is_an_error() {
        let (_, result) = taken(&archive(&["a/../../secret".to_owned()]));
        assert!(result.expect_err("refused").to_string().contains("leads out of the image"));
    }

    #[test]
    fn a_small_layer_cannot_fill_the_disk() {
        let mut header = tar::Header::new_gnu();
        header.set_path("boot/vmlinuz").expect("path");
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(512);
        let gnu = header.as_gnu_mut().expect("gnu");
        gnu.realsize.copy_from_slice(b"\x80\0\0\0\0\0\x01\0\0\0\0\0");
        gnu.sparse[0].offset[..11].copy_from_slice(b"00000000000");
        gnu.sparse[0].numbytes[..11].copy_from_slice(b"00000001000");
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(2048, 0);
        let (outer, result) = taken(&bytes);
        assert!(result.expect_err("refused").to_string().contains("is a sparse file"));
        assert_eq!(fs::read_dir(outer.path().join("into")).expect("list").count(), 0);
    }

    #[test]
    fn the_layers_of_an_image_are_bounded_together() {
        let tar = archive(&["a".to_owned(), "b".to_owned()]);
        let mut left = 3 * tar.len() as u64;
        let into = tempfile::tempdir().expect("tempdir");
        let mut one = || {
            let layer = Within { input: &tar[..], left: &mut left };
            take(layer, &|_: &str| true, into.path(), &Hidden::default(), &mut Hidden::default())
        };
        for layer in 0..3 {
            one().unwrap_or_else(|error| panic!("layer {layer}: {error}"));
        }
        let error = one().expect_err("too much").to_string();
        assert!(error.contains("the layers unpack to more than 8 GiB"), "{error}");
    }

    #[test]
    fn the_memory_for_paths_is_bounded() {
        let mut hidden = Hidden::default();
        let hide = |hidden: &mut Hidden, n: usize| hidden.hide(format!("{n}"));
        let most = PATHS_LIMIT / PER_PATH;
        let refused = (0..most).find_map(|n| hide(&mut hidden, n).err()).expect("no limit").to_string();
        assert_eq!(refused, "its paths need more than 32 MiB; those of no image do");
    }

    proptest! {
        #[test]
        fn nothing_is_written_outside(
            names in proptest::collection::vec("(\\.\\./|/|\\./|\\.wh\\.|[a-c]{1,2}|[a-c]/){1,5}", 0..6)
        ) {
            let (outer, _) = taken(&archive(&names));
            let entries: Vec<_> = fs::read_dir(outer.path()).expect("list").flatten().map(|e| e.file_name()).collect();
            prop_assert_eq!(entries, ["into"]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(at in 0usize..1024, byte: u8, keep in 0usize..3000) {
            let mut bytes = archive(&["a".to_owned(), "b/.wh.c".to_owned()]);
            bytes[at] = byte;
            bytes.truncate(keep);
            let _ = taken(&bytes);
        }
    }
}
