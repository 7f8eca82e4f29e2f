//! The root file system: the listed files of the package tree, the shared libraries that they link to,
//! and the project's own programs.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
    process::Command,
};

use object::{
    Endianness,
    elf::{DT_NEEDED, FileHeader64},
    read::elf::{Dyn, FileHeader},
};

use super::{
    kernel_modules::KernelModules,
    listing::Listing,
    step::{RecipeError, file, run},
};

/// The directory of arm64 libraries in Debian (multiarch).
const LIBRARIES: &str = "usr/lib/aarch64-linux-gnu";
/// The link to the program interpreter, which every dynamic program requires.
const INTERPRETER: &str = "usr/lib/ld-linux-aarch64.so.1";

/// Users and groups for programs that look them up. Login is not possible.
const PASSWD: &str =
    "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// A root file system under construction in a host directory.
pub(super) struct RootTree<'a> {
    packages: &'a Path,
    root: &'a Path,
    copied: BTreeSet<PathBuf>,
}

impl<'a> RootTree<'a> {
    /// Creates an empty tree at `root`, with the package tree `packages` as its source.
    pub(super) fn new(packages: &'a Path, root: &'a Path) -> Result<Self, RecipeError> {
        fs::create_dir_all(root).map_err(file("create", root))?;
        Ok(Self { packages, root, copied: BTreeSet::new() })
    }

    /// Adds every entry of the lists in `directory`.
    pub(super) fn fill_from_lists(&mut self, directory: &Path) -> Result<(), RecipeError> {
        for name in Listing::read(&directory.join("directories"))?.names()? {
            self.directory(Path::new(name))?;
        }
        for (link, target) in Listing::read(&directory.join("links"))?.pairs()? {
            self.link(Path::new(link), Path::new(target))?;
        }
        for path in Listing::read(&directory.join("files"))?.names()? {
            self.copy(Path::new(path))?;
        }
        self.copy(Path::new(INTERPRETER))?;
        for path in Listing::read(&directory.join("programs"))?.names()? {
            self.copy_program(Path::new(path))?;
        }
        self.text("etc/passwd", PASSWD)?;
        self.text("etc/group", GROUP)?;
        self.text("etc/nsswitch.conf", NSSWITCH)
    }

    /// Installs a program of the project.
    pub(super) fn install(&self, name: &str, program: &Path) -> Result<(), RecipeError> {
        let to = self.place(Path::new(name))?;
        fs::copy(program, &to).map_err(file("copy", program))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).map_err(file("mark executable", &to))
    }

    /// Copies modules with their dependencies.
    pub(super) fn copy_modules(&self, modules: &KernelModules, names: &[&str]) -> Result<(), RecipeError> {
        let base = PathBuf::from("usr/lib/modules").join(&modules.version);
        for module in modules.with_dependencies(names)? {
            let to = self.place(&base.join(&module.path))?;
            fs::write(&to, &module.content).map_err(file("write", &to))?;
        }
        Ok(())
    }

    /// Installs modules with their dependencies, and the index for modprobe.
    pub(super) fn install_modules(&self, modules: &KernelModules, names: &[&str]) -> Result<(), RecipeError> {
        self.copy_modules(modules, names)?;
        let base = PathBuf::from("usr/lib/modules").join(&modules.version);
        self.link(Path::new("lib"), Path::new("usr/lib"))?;
        for list in modules.depmod_inputs() {
            let to = self.place(&base.join(list.file_name().unwrap_or_default()))?;
            fs::copy(&list, &to).map_err(file("copy", &list))?;
        }
        // depmod is in sbin, which may be missing from the PATH of an ordinary user. It requires
        // lib/modules.
        let search = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        run(Command::new("depmod").env("PATH", search).arg("-b").arg(self.root).arg(&modules.version))?;
        Ok(())
    }

    fn directory(&self, path: &Path) -> Result<(), RecipeError> {
        let to = self.root.join(path);
        fs::create_dir_all(&to).map_err(file("create", &to))
    }

    fn link(&self, path: &Path, target: &Path) -> Result<(), RecipeError> {
        let at = self.place(path)?;
        match symlink(target, &at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(file("link", &at)(error)),
            _ => Ok(()),
        }
    }

    fn text(&self, path: &str, content: &str) -> Result<(), RecipeError> {
        let to = self.place(Path::new(path))?;
        fs::write(&to, content).map_err(file("write", &to))
    }

    /// Returns the path in the tree and creates its parent directory.
    fn place(&self, path: &Path) -> Result<PathBuf, RecipeError> {
        let to = self.root.join(path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(file("create", parent))?;
        }
        Ok(to)
    }

    /// Copies a file of the package tree. For a link, also copies the target.
    fn copy(&mut self, path: &Path) -> Result<(), RecipeError> {
        if !self.copied.insert(path.to_owned()) {
            return Ok(());
        }
        let from = self.packages.join(path);
        let metadata = fs::symlink_metadata(&from).map_err(|_| {
            RecipeError::Missing(format!(
                "the packages contain no {}; correct the lists in images/rootfs",
                path.display()
            ))
        })?;
        if metadata.is_symlink() {
            let target = fs::read_link(&from).map_err(file("read", &from))?;
            self.link(path, &target)?;
            return self.copy(&resolved(path, &target));
        }
        let to = self.place(path)?;
        fs::copy(&from, &to).map_err(file("copy", &from))?;
        Ok(())
    }

    fn copy_program(&mut self, path: &Path) -> Result<(), RecipeError> {
        self.copy(path)?;
        let mut pending = vec![path.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(path) = pending.pop() {
            let from = self.packages.join(&path);
            let content = fs::read(&from).map_err(file("read", &from))?;
            for library in needed(&content).map_err(|error| {
                RecipeError::Missing(format!("{} is not an arm64 ELF program: {error}", path.display()))
            })? {
                let path = Path::new(LIBRARIES).join(library);
                if seen.insert(path.clone()) {
                    self.copy(&path)?;
                    pending.push(path);
                }
            }
        }
        Ok(())
    }
}

/// Packs the tree `root`. For an emulated guest, LZ4 costs little more than no compression and a third of
/// the cost of zstd. The high-compression form costs the guest the same and saves memory.
pub(super) fn pack(root: &Path, output: &Path) -> Result<(), RecipeError> {
    set_modes(root)?;
    run(Command::new("mksquashfs")
        .arg(root)
        .arg(output)
        .args(["-noappend", "-quiet", "-no-progress", "-all-root", "-no-xattrs", "-no-exports"])
        .args(["-comp", "lz4", "-Xhc", "-b", "131072", "-mkfs-time", "0", "-all-time", "0"])
        .env_remove("SOURCE_DATE_EPOCH"))?;
    Ok(())
}

/// Sets the file modes of an installed system, independent of the umask of the build.
fn set_modes(root: &Path) -> Result<(), RecipeError> {
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.map_err(|error| RecipeError::File {
            action: "read",
            path: error.path().unwrap_or(root).to_owned(),
            source: error.into(),
        })?;
        let path = entry.path();
        let mode = match entry.file_type() {
            kind if kind.is_symlink() => continue,
            kind if kind.is_dir() => 0o755,
            _ => {
                let mode = fs::metadata(path).map_err(file("read", path))?.permissions().mode();
                if mode & 0o100 == 0 { 0o644 } else { 0o755 }
            }
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file("set the mode of", path))?;
    }
    Ok(())
}

/// Resolves a link at `path` with the text `target` within the tree.
fn resolved(path: &Path, target: &Path) -> PathBuf {
    let start = if target.is_absolute() { Path::new("") } else { path.parent().unwrap_or(Path::new("")) };
    let mut result = PathBuf::new();
    for component in start.components().chain(target.components()) {
        match component {
            Component::Normal(name) => result.push(name),
            Component::ParentDir => {
                result.pop();
            }
            _ => {}
        }
    }
    // `lib` is itself a link to `usr/lib` in a merged tree.
    if result.starts_with("lib") { Path::new("usr").join(result) } else { result }
}

/// Returns the shared libraries of an ELF file (`DT_NEEDED`). Returns an empty list for a static program.
fn needed(content: &[u8]) -> object::Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(content)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, content)?;
    let Some((entries, link)) = sections.dynamic(endian, content)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, content, link)?;
    entries
        .iter()
        .filter(|entry| entry.tag32(endian) == Some(DT_NEEDED))
        .map(|entry| Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_resolve_within_the_tree() {
        let at = |path: &str, target: &str| resolved(Path::new(path), Path::new(target));
        assert_eq!(at("usr/lib/a/x.so", "x.so.1"), Path::new("usr/lib/a/x.so.1"));
        assert_eq!(at("usr/sbin/ip", "../bin/ip"), Path::new("usr/bin/ip"));
        assert_eq!(at("usr/lib/ld.so", "/lib/a/ld.so"), Path::new("usr/lib/a/ld.so"));
        assert_eq!(at("a", "../../../etc/x"), Path::new("etc/x"));
    }

    #[test]
    fn modes_do_not_depend_on_the_umask() {
        let tree = tempfile::tempdir().expect("tempdir");
        let make = |name: &str, mode| {
            let path = tree.path().join(name);
            fs::write(&path, "").expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            path
        };
        let (program, file) = (make("program", 0o4710), make("file", 0o600));
        symlink("/nowhere", tree.path().join("link")).expect("link");
        fs::set_permissions(tree.path(), fs::Permissions::from_mode(0o700)).expect("mode");
        set_modes(tree.path()).expect("modes");
        let mode = |path: &Path| fs::metadata(path).expect("stat").permissions().mode() & 0o7777;
        assert_eq!((mode(tree.path()), mode(&program), mode(&file)), (0o755, 0o755, 0o644));
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        assert!(needed(b"#!/bin/sh").is_err());
    }
}
