//! What one layer of a container image holds: its programs, scripts and links, and what it removes from lower layers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::Path,
};

use lab_image::ElfHead;
use serde::{Deserialize, Serialize};

use super::script::{SCRIPT_LIMIT, Script};
use crate::images::{clean, each, removed};

/// The largest unpacked layer, in bytes.
const LAYER_LIMIT: u64 = 16 << 30;
/// The maximum number of programs, scripts and links that are kept; images of whole distributions have some ten
/// thousand.
const ENTRIES_LIMIT: usize = 200_000;
/// The maximum total length of their paths, in bytes.
const PATHS_LIMIT: usize = 32 << 20;
/// The longest target of a link, in bytes.
const TARGET_LIMIT: usize = 4096;
/// The bytes of a file that show what it is.
const HEAD: u64 = 64;

/// What a layer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// The number of files of all kinds.
    pub files: u64,
    /// Programs, scripts and links, by path without a leading slash.
    pub entries: BTreeMap<String, LayerEntry>,
    /// The paths of lower layers that are hidden, with everything below them. An empty path hides everything.
    pub removed: BTreeSet<String>,
}

/// An entry of a layer. Plain files without the permission to run are counted only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerEntry {
    /// An ELF file.
    Program { head: ElfHead, executable: bool },
    /// A script with a line `#!`.
    Script(Script),
    /// A symbolic link, or a hard link as an absolute path.
    Link(String),
    /// Another file with the permission to run.
    Other,
    /// A WebAssembly module.
    Wasm,
}

impl LayerFacts {
    /// Reads an unpacked layer.
    ///
    /// # Errors
    /// Returns an error if the archive is damaged or exceeds a limit.
    pub fn read(tar: impl Read) -> io::Result<Self> {
        let mut facts = Self::default();
        let mut paths = 0;
        let mut archive = tar::Archive::new(tar.take(LAYER_LIMIT));
        each(archive.entries()?, |named, entry| {
            let written = named.path();
            let Some(path) = clean(Path::new(&written)) else {
                return Err(io::Error::other(format!("{written:?} leads out of the image")));
            };
            if let Some(removed) = removed(&path) {
                facts.removed.insert(removed);
                return Ok(());
            }
            let kind = entry.header().entry_type();
            let found = if kind.is_symlink() || kind.is_hard_link() {
                let target = named.link.as_deref().unwrap_or_default();
                let target = String::from_utf8_lossy(&target[..target.len().min(TARGET_LIMIT)]);
                Some(LayerEntry::Link(if kind.is_hard_link() { format!("/{target}") } else { target.into() }))
            } else if kind.is_file() {
                facts.files += 1;
                let executable = entry.header().mode()? & 0o111 != 0;
                let mut head = Vec::new();
                Read::by_ref(entry).take(HEAD).read_to_end(&mut head)?;
                if head.starts_with(b"#!") {
                    Read::by_ref(entry).take(SCRIPT_LIMIT).read_to_end(&mut head)?;
                }
                LayerEntry::of(&head, executable)
            } else {
                None
            };
            if let Some(found) = found {
                paths += path.len();
                facts.entries.insert(path, found);
            }
            if facts.entries.len() + facts.removed.len() > ENTRIES_LIMIT || paths > PATHS_LIMIT {
                let why =
                    format!("more than {ENTRIES_LIMIT} programs, scripts and links; no layer has so many");
                return Err(io::Error::other(why));
            }
            Ok(())
        })?;
        Ok(facts)
    }
}

impl LayerEntry {
    fn of(head: &[u8], executable: bool) -> Option<Self> {
        if let Some(head) = ElfHead::parse(head) {
            let kept = executable || (head.is_program && !head.is_arm64());
            return kept.then_some(Self::Program { head, executable });
        }
        if head.starts_with(b"\0asm") {
            return Some(Self::Wasm);
        }
        let script = Script::parse(head).filter(|_| executable).map(Self::Script);
        script.or(executable.then_some(Self::Other))
    }
}

#[cfg(test)]
mod tests {
    use lab_image_fixtures::elf;
    use proptest::prelude::*;

    use super::*;

    fn layer(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        for (path, mode, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            out.append_data(&mut header, path, *content).expect("append");
        }
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        out.append_link(&mut link, "bin", "usr/bin").expect("link");
        out.into_inner().expect("tar")
    }

    #[test]
    fn programs_scripts_links_and_whiteouts_are_told_apart() {
        let arm64 = elf(183);
        let facts = LayerFacts::read(
            &layer(&[
                ("usr/bin/a", 0o755, &arm64),
                ("usr/lib/own.so", 0o644, &arm64),
                ("usr/lib/foreign.so", 0o644, &elf(62)),
                ("start.sh", 0o755, b"#!/bin/sh\nexec /usr/bin/a\n"),
                ("notes.txt", 0o644, b"#!/bin/sh"),
                ("etc/.wh.old", 0o644, b""),
                ("var/.wh..wh..opq", 0o644, b""),
            ])[..],
        )
        .expect("read");
        let names: Vec<_> = facts.entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["bin", "start.sh", "usr/bin/a", "usr/lib/foreign.so"]);
        assert_eq!(facts.entries["bin"], LayerEntry::Link("usr/bin".into()));
        assert_eq!((facts.files, facts.removed), (5, ["etc/old", "var"].map(str::to_owned).into()));
    }

    proptest! {
        #[test]
        fn damage_ends_without_a_panic(at in 0usize..3000, byte: u8, keep in 0usize..6000) {
            let mut bytes = layer(&[("usr/bin/a", 0o755, &elf(62)), ("s", 0o755, b"#!/bin/sh\n")]);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(keep);
            let _ = LayerFacts::read(&bytes[..]);
        }
    }
}
