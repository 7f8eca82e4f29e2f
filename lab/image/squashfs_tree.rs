//! The file tree of a squashfs file: everything below a directory, and a digest that only the files determine.

use std::{
    collections::BTreeSet,
    io::{Read, Seek},
};

use lab_model::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    squashfs::{Squashfs, SquashfsError, wrong},
    squashfs_inode::{File, Inode},
};

/// Maximum total length of the paths in bytes.
const PATHS_LIMIT: usize = 64 << 20;
/// Maximum directory depth.
const DEPTH_LIMIT: usize = 64;
/// Maximum size of all compared files of one layer, in bytes.
const TREE_LIMIT: u64 = 4 << 30;

/// An entry of a file tree.
#[derive(Clone)]
pub enum TreeEntry {
    Directory {
        mode: u16,
    },
    File(File),
    Link {
        target: String,
    },
    /// A device, pipe or socket.
    Special,
}

impl<R: Read + Seek> Squashfs<R> {
    /// Returns the regular files below the directory `path`, each with its path from the root. The list is
    /// empty if the directory does not exist. The reader does not follow symbolic links.
    ///
    /// # Errors
    /// Returns an error if a table is damaged, a directory contains one of its parents, or a limit is
    /// exceeded.
    pub fn files_under(&mut self, path: &str) -> Result<Vec<(String, File)>, SquashfsError> {
        let files = self.tree(path)?.into_iter().filter_map(|(path, entry)| match entry {
            TreeEntry::File(file) => Some((path, file)),
            _ => None,
        });
        Ok(files.collect())
    }

    /// Returns everything below the directory `path`, sorted by path, without the directory itself.
    ///
    /// # Errors
    /// Like [`Squashfs::files_under`].
    pub fn tree(&mut self, path: &str) -> Result<Vec<(String, TreeEntry)>, SquashfsError> {
        let mut found = Vec::new();
        let Some(Inode::Directory(top)) = self.find(path)? else {
            return Ok(found);
        };
        let mut seen = BTreeSet::new();
        let mut named = 0;
        let mut waiting = vec![(path.trim_matches('/').to_owned(), top, 0)];
        while let Some((path, directory, depth)) = waiting.pop() {
            if !seen.insert((directory.block, directory.offset, directory.inode)) {
                return Err(wrong(
                    directory.inode_at,
                    format!("the directory {path} is in two places: a loop"),
                ));
            }
            if depth > DEPTH_LIMIT {
                return Err(wrong(
                    directory.inode_at,
                    format!("{path} is more than {DEPTH_LIMIT} directories deep"),
                ));
            }
            for (name, reference) in self.list(&directory)? {
                let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                named += path.len();
                if named > PATHS_LIMIT {
                    return Err(wrong(
                        self.directory_table,
                        format!("paths of more than {PATHS_LIMIT} bytes"),
                    ));
                }
                let entry = match self.inode(reference)? {
                    Inode::Directory(directory) => {
                        let mode = directory.mode;
                        waiting.push((path.clone(), directory, depth + 1));
                        TreeEntry::Directory { mode }
                    }
                    Inode::File(file) => TreeEntry::File(file),
                    Inode::Link(target) => TreeEntry::Link { target },
                    Inode::Other => TreeEntry::Special,
                };
                found.push((path, entry));
            }
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    /// Returns the digest of the file tree: of paths, kinds, permission bits, link targets and contents. Times
    /// and owners are not part of it, so two builds from the same files have the same digest.
    ///
    /// # Errors
    /// Like [`Squashfs::files_under`] and [`Squashfs::read`].
    pub fn tree_digest(&mut self) -> Result<Digest, SquashfsError> {
        let mut hasher = Sha256::new();
        let mut contents = 0_u64;
        for (path, entry) in self.tree("")? {
            let line = match &entry {
                TreeEntry::Directory { mode } => format!("directory {mode:o}"),
                TreeEntry::Link { target } => format!("link {target}"),
                TreeEntry::Special => "special".to_owned(),
                TreeEntry::File(file) => {
                    // Files may share their blocks, so the table of inodes is no bound of their sizes.
                    contents = contents.saturating_add(file.size);
                    if contents > TREE_LIMIT {
                        let problem = format!("its files have more than {TREE_LIMIT} bytes");
                        return Err(wrong(file.inode_at, problem));
                    }
                    let mut content = Sha256::new();
                    self.each_block(file, TREE_LIMIT, &mut |block| content.update(block))?;
                    format!("file {:o} {}", file.mode, Digest::of_hash(content))
                }
            };
            hasher.update(format!("{path}\0{line}\0"));
        }
        Ok(Digest::of_hash(hasher))
    }
}
