//! The files of a tar archive from a stranger: every header is bounded, and a file is as large as its bytes.
//!
//! The `tar` crate reads headers for long names whole and fills the gaps of sparse files. A header of a few bytes can so
//! claim gigabytes. This module reads the raw entries and interprets long names itself (POSIX pax, GNU `L` and `K`).

use std::io::{self, Read};

use tar::{Entries, Entry, EntryType, PaxExtensions};

/// The largest header with a long name or with pax records, in bytes. Pax records of image layers may contain extended
/// attributes.
const LARGEST_HEADER: u64 = 1 << 20;
/// The longest path or link target, in bytes (Linux `PATH_MAX`). Readers keep paths in memory.
const LONGEST_PATH: usize = 4096;
/// The maximum number of entries; node images have tens of thousands of files.
const MOST_ENTRIES: usize = 1_000_000;

/// The properties of an entry. The path and the link target are as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Option<Vec<u8>>,
}

impl Named {
    /// The path as text. Bytes that are not UTF-8 are replaced.
    pub(crate) fn path(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Passes every file, directory and link of an archive to `visit`.
///
/// # Errors
/// If the archive is damaged, contains a sparse file, or exceeds a limit, and with the errors of `visit`.
pub(crate) fn each<'a, R: Read>(
    entries: Entries<'a, R>,
    mut visit: impl FnMut(&Named, &mut Entry<'a, R>) -> io::Result<()>,
) -> io::Result<()> {
    let mut own = Named::default();
    let mut pax_size = None;
    for (count, entry) in entries.raw(true).enumerate() {
        let mut entry = entry?;
        if count == MOST_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MOST_ENTRIES} entries; no image has")));
        }
        match entry.header().entry_type() {
            EntryType::GNULongName => own.path = text(&mut entry)?,
            EntryType::GNULongLink => own.link = Some(text(&mut entry)?),
            EntryType::XHeader => {
                let records = header(&mut entry)?;
                for record in PaxExtensions::new(&records) {
                    let record = record?;
                    match record.key_bytes() {
                        b"path" => own.path = record.value_bytes().to_vec(),
                        b"linkpath" => own.link = Some(record.value_bytes().to_vec()),
                        b"size" => pax_size = record.value().ok().and_then(|size| size.parse::<u64>().ok()),
                        key if key.starts_with(b"GNU.sparse.") => return Err(sparse(&own, &entry)),
                        _ => {}
                    }
                }
            }
            // Records for the whole archive, such as the commit of `git archive`.
            EntryType::XGlobalHeader => drop(header(&mut entry)?),
            EntryType::GNUSparse => return Err(sparse(&own, &entry)),
            _ => {
                let mut named = std::mem::take(&mut own);
                if named.path.is_empty() {
                    named.path = entry.path_bytes().into_owned();
                }
                if named.link.is_none() {
                    named.link = entry.link_name_bytes().map(|link| link.into_owned());
                }
                let longest = named.path.len().max(named.link.as_ref().map_or(0, Vec::len));
                if longest > LONGEST_PATH {
                    let why = format!("a path has {longest} bytes; no system has more than {LONGEST_PATH}");
                    return Err(io::Error::other(why));
                }
                if pax_size.take().is_some_and(|size| size != entry.size()) {
                    let path = named.path();
                    return Err(io::Error::other(format!("{path:?} says that it has two different sizes")));
                }
                visit(&named, &mut entry)?;
            }
        }
    }
    Ok(())
}

fn sparse<R: Read>(own: &Named, entry: &Entry<'_, R>) -> io::Error {
    let path = if own.path.is_empty() { entry.path_bytes().into_owned() } else { own.path.clone() };
    let path = String::from_utf8_lossy(&path).into_owned();
    io::Error::other(format!(
        "{path:?} is a sparse file, and only plain files are read; pack it without --sparse"
    ))
}

fn header<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    let size = entry.size();
    if size > LARGEST_HEADER {
        let limit = LARGEST_HEADER >> 20;
        let why = format!("a header for a name claims {size} bytes; no name needs more than {limit} MiB");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A name, which a zero ends.
fn text<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    let mut bytes = header(entry)?;
    bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::{Archive, Builder, Header};

    use super::*;

    fn names(bytes: &[u8]) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        each(Archive::new(bytes).entries()?, |named, entry| {
            found.push((named.path(), io::copy(entry, &mut io::sink())?));
            Ok(())
        })?;
        Ok(found)
    }

    fn raw(kind: EntryType, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_path("x").expect("path");
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn long_names_of_both_kinds_are_read() {
        let long = format!("{}/file", "d".repeat(150));
        let mut gnu = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(3);
        gnu.append_data(&mut header, &long, &b"abc"[..]).expect("append");
        assert_eq!(names(&gnu.into_inner().expect("tar")).expect("read"), [(long.clone(), 3)]);
        let mut pax = Builder::new(Vec::new());
        pax.append_pax_extensions([("path", long.as_bytes()), ("size", b"3")]).expect("pax");
        let mut header = Header::new_ustar();
        header.set_path("short").expect("path");
        header.set_size(3);
        header.set_cksum();
        pax.append(&header, &b"abc"[..]).expect("append");
        assert_eq!(names(&pax.into_inner().expect("tar")).expect("read"), [(long, 3)]);
    }

    #[test]
    fn a_path_that_no_system_has_is_refused() {
        let path = |length: usize| {
            let mut pax = Builder::new(Vec::new());
            pax.append_pax_extensions([("path", "d".repeat(length).as_bytes())]).expect("pax");
            let mut header = Header::new_ustar();
            header.set_path("short").expect("path");
            header.set_size(0);
            header.set_cksum();
            pax.append(&header, &b""[..]).expect("append");
            names(&pax.into_inner().expect("tar"))
        };
        assert_eq!(path(LONGEST_PATH).expect("read").len(), 1);
        let error = path(LONGEST_PATH + 1).expect_err("long").to_string();
        assert_eq!(error, "a path has 4097 bytes; no system has more than 4096");
    }

    #[test]
    fn a_sparse_file_and_a_header_that_claims_gigabytes_are_refused_before_they_are_read() {
        let error = names(&raw(EntryType::GNUSparse, 0, b"")).expect_err("sparse").to_string();
        assert!(error.starts_with("\"x\" is a sparse file"), "{error}");
        for kind in
            [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
        {
            let endless = raw(kind, 7 << 30, b"").into_iter().collect::<Vec<_>>();
            let endless = io::Read::chain(&endless[..], io::repeat(b'a').take(8 << 30));
            let mut archive = Archive::new(endless);
            let error =
                each(archive.entries().expect("entries"), |_, _| Ok(())).expect_err("large").to_string();
            assert!(error.starts_with("a header for a name claims 7516192768 bytes"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn damage_ends_without_a_panic(at in 0usize..2048, byte: u8, keep in 0usize..3000) {
            let mut builder = Builder::new(Vec::new());
            builder.append_pax_extensions([("path", &b"a/b"[..])]).expect("pax");
            let mut header = Header::new_gnu();
            header.set_size(3);
            builder.append_data(&mut header, "d".repeat(150), &b"abc"[..]).expect("append");
            let mut bytes = builder.into_inner().expect("tar");
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(keep);
            let _ = names(&bytes);
        }
    }
}
