//! The modules of Go programs, as the programs themselves say (`go version -m`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Component, Inventory, InventoryError, Kind, run::run, spdx, texts};

/// The directories of programs for the host, below the images.
const PROGRAMS: [&str; 2] = ["tailnet", "validator"];
/// The version of a module that was built from a directory.
const DEVEL: &str = "(devel)";
/// Go's name for its own library in vulnerability databases.
const LIBRARY: &str = "stdlib";

/// A program with its modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoProgram {
    pub file: PathBuf,
    /// The release of Go, e.g. `go1.26.8`.
    pub go: String,
    /// Name and version of each module.
    pub modules: Vec<(String, String)>,
}

/// The Go installation of this host.
pub struct Go {
    modules: PathBuf,
    root: PathBuf,
}

impl Go {
    /// Asks `go` where its modules are.
    pub fn here(project: &Path) -> Result<Self, InventoryError> {
        let text = run(Command::new("go").args(["env", "GOMODCACHE", "GOROOT"]).current_dir(project))?;
        match text.lines().collect::<Vec<_>>().as_slice() {
            [modules, root] => Ok(Self { modules: modules.into(), root: root.into() }),
            _ => Err(InventoryError::format("go env", text)),
        }
    }

    /// Adds the modules of the programs that run on the host.
    pub fn add_programs_below(&self, inventory: &mut Inventory, images: &Path) -> Result<(), InventoryError> {
        for directory in PROGRAMS {
            let programs = programs_below(&images.join(directory))?;
            if programs.is_empty() {
                return Err(InventoryError::format(
                    directory,
                    "there is no Go program; build them with: make images",
                ));
            }
            for program in programs {
                let part = program.file.strip_prefix(images).unwrap_or(&program.file).display().to_string();
                self.add(inventory, &program, &part)?;
            }
        }
        Ok(())
    }

    /// Adds the modules of a program, and Go's own library.
    pub fn add(
        &self,
        inventory: &mut Inventory,
        program: &GoProgram,
        part: &str,
    ) -> Result<(), InventoryError> {
        for (name, version) in &program.modules {
            let component = Component::new(Kind::GoModule, name, version);
            inventory.add(component, part, |component| self.with_texts(component))?;
        }
        let version = program.go.trim_start_matches("go");
        let library = Component {
            licence: Some("BSD-3-Clause".to_owned()),
            ..Component::new(Kind::GoModule, LIBRARY, version)
        };
        inventory.add(library, part, |mut library| {
            library.texts = texts::below(&self.root)?;
            library.texts.retain(|text| !text.file.contains('/'));
            some_text(library)
        })
    }

    fn with_texts(&self, mut component: Component) -> Result<Component, InventoryError> {
        let directory =
            self.modules.join(format!("{}@{}", escaped(&component.name), escaped(&component.version)));
        if !directory.is_dir() {
            let module = format!("{}@{}", component.name, component.version);
            run(Command::new("go")
                .args(["mod", "download", &module])
                .current_dir("/")
                .env("GOFLAGS", "-mod=mod"))?;
        }
        component.texts = texts::below(&directory)?;
        // A module of a repository with several may have its licence only in the root of the repository.
        let mut parent = component.name.as_str();
        while component.texts.is_empty() {
            let Some((above, _)) = parent.rsplit_once('/') else { break };
            parent = above;
            component.texts = self.newest_of(above)?;
        }
        component.licence = spdx::expression(&component.texts);
        some_text(component)
    }

    /// The licence files of the newest version of a module in the cache, if there is one.
    fn newest_of(&self, module: &str) -> Result<Vec<crate::LicenceText>, InventoryError> {
        let path = self.modules.join(escaped(module));
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
        let start = format!("{}@", name.to_string_lossy());
        let Ok(entries) = fs::read_dir(parent) else { return Ok(Vec::new()) };
        let mut found: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
            .collect();
        found.sort();
        found.pop().map_or_else(|| Ok(Vec::new()), |newest| texts::below(&newest))
    }
}

fn some_text(component: Component) -> Result<Component, InventoryError> {
    if component.texts.is_empty() {
        return Err(InventoryError::NoText(vec![component.purl()]));
    }
    Ok(component)
}

/// The path of a module in the cache: an upper-case letter becomes `!` and its lower-case letter.
fn escaped(module: &str) -> String {
    module.chars().fold(String::new(), |mut out, letter| {
        if letter.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(letter.to_ascii_lowercase());
        out
    })
}

/// The Go programs in a directory and below.
pub fn programs_below(directory: &Path) -> Result<Vec<GoProgram>, InventoryError> {
    Ok(programs(&run(Command::new("go").args(["version", "-m"]).arg(directory).current_dir("/"))?))
}

/// Reads the output of `go version -m`: a line `FILE: GOVERSION` for each program, then tab-separated records. `mod` and
/// `dep` records name a module. `=>` records replace the module of the record before.
fn programs(listed: &str) -> Vec<GoProgram> {
    let mut programs: Vec<GoProgram> = Vec::new();
    for line in listed.lines() {
        if !line.starts_with('\t') {
            if let Some((file, go)) = line.rsplit_once(": ") {
                programs.push(GoProgram { file: file.into(), go: go.to_owned(), modules: Vec::new() });
            }
            continue;
        }
        let Some(program) = programs.last_mut() else { continue };
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            // The module of the program itself, unless that is the project's own.
            ["mod", _, version, ..] if *version == DEVEL => {}
            ["mod" | "dep", name, version, ..] => {
                program.modules.push(((*name).to_owned(), (*version).to_owned()))
            }
            // A copy with edits is still the module that it was made from.
            ["=>", _, version, ..] if *version == DEVEL => {}
            ["=>", name, version, ..] => {
                program.modules.pop();
                program.modules.push(((*name).to_owned(), (*version).to_owned()));
            }
            _ => {}
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_with_what_replaces_their_modules() {
        let listed = "/a/echo: go1.26.8\n\tpath\ta.dev/echo\n\tmod\ta.dev/echo\tv1.0.0\th1:z=\n\tdep\tcel.dev/expr\tv0.24.0\th1:x=\n\tdep\tk8s.io/api\tv0.0.0\n\
                      \t=>\tk8s.io/api\tv0.34.2\th1:y=\n\tdep\tk8s.io/client-go\tv0.34.2\n\t=>\t./edited/0\t(devel)\n/a/pause: go1.26.8\n\tmod\tlab\t(devel)\n\tbuild\tGOARCH=arm64\n";
        let found = programs(listed);
        assert_eq!(found.len(), 2);
        let modules = [
            ("a.dev/echo", "v1.0.0"),
            ("cel.dev/expr", "v0.24.0"),
            ("k8s.io/api", "v0.34.2"),
            ("k8s.io/client-go", "v0.34.2"),
        ];
        assert_eq!(found[0].modules, modules.map(|(name, version)| (name.to_owned(), version.to_owned())));
        assert_eq!((found[1].go.as_str(), found[1].modules.len()), ("go1.26.8", 0));
    }

    #[test]
    fn the_cache_escapes_upper_case() {
        assert_eq!(escaped("github.com/BurntSushi/toml"), "github.com/!burnt!sushi/toml");
    }
}
