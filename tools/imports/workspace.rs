//! The crates of a workspace with their modules, and the imports between their files.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    parse::{Parsed, Use, Within},
    resolve::Found,
    sources::{ReadError, Sources},
};

/// That a file names something that another file defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: String,
    pub line: usize,
    pub to: String,
}

/// A member of the workspace.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub manifest: String,
    /// The packages that its manifest lists as dependencies, those for tests and for build.rs left out.
    pub dependencies: BTreeSet<String>,
    /// The folder of its crate root.
    pub folder: String,
}

/// A module of a library or a program: a file, or a part of one.
#[derive(Debug)]
pub(crate) struct Module {
    pub file: String,
    pub parent: Option<usize>,
    pub root: usize,
    pub children: BTreeMap<String, usize>,
    pub uses: Vec<(usize, Use)>,
    pub paths: Vec<(usize, Vec<String>)>,
    pub items: BTreeSet<String>,
}

/// All crates, modules and imports.
#[derive(Debug, Default)]
pub struct Workspace {
    pub members: Vec<Member>,
    pub imports: BTreeSet<Import>,
    /// The index in `members` of the crate of each file.
    pub(crate) owners: BTreeMap<String, usize>,
    pub(crate) modules: Vec<Module>,
    /// Crate roots by the names that other crates know them by.
    pub(crate) libraries: BTreeMap<String, usize>,
}

impl Workspace {
    /// Reads the manifests and the modules that can be reached from the crate roots.
    pub fn of(sources: &Sources) -> Result<Self, ReadError> {
        let mut workspace = Self::default();
        let manifest = sources.manifest("Cargo.toml")?;
        // The fuzz targets are no default member: they compile files of other crates as their own.
        let members = manifest
            .get("workspace")
            .and_then(|table| table.get("default-members").or_else(|| table.get("members")));
        let members = members.and_then(toml::Value::as_array).into_iter().flatten();
        let folders = std::iter::once("")
            .chain(members.filter_map(toml::Value::as_str).filter(|folder| *folder != "."));
        for folder in folders {
            workspace.add_member(sources, folder)?;
        }
        workspace.imports =
            (0..workspace.modules.len()).flat_map(|module| workspace.imports_of(module)).collect();
        Ok(workspace)
    }

    /// The name of the crate that a file belongs to.
    pub fn owner(&self, file: &str) -> &str {
        self.owners.get(file).map_or("", |&member| &self.members[member].name)
    }

    /// The files of a crate.
    pub fn files<'a>(&'a self, member: &'a str) -> impl Iterator<Item = &'a str> {
        self.owners.keys().map(String::as_str).filter(move |file| self.owner(file) == member)
    }

    fn add_member(&mut self, sources: &Sources, folder: &str) -> Result<(), ReadError> {
        let manifest = joined(folder, "Cargo.toml");
        let table = sources.manifest(&manifest)?;
        let Some(name) = table.get("package").and_then(|package| package.get("name")) else {
            return Ok(());
        };
        let name = name.as_str().unwrap_or_default().to_owned();
        let dependencies = table.get("dependencies").and_then(toml::Value::as_table);
        let path = |target: Option<&toml::Value>| {
            target.and_then(|target| target.get("path")).and_then(toml::Value::as_str).map(str::to_owned)
        };
        let library = joined(folder, &path(table.get("lib")).unwrap_or_else(|| "src/lib.rs".into()));
        let programs = table.get("bin").and_then(toml::Value::as_array).into_iter().flatten();
        let programs: Vec<_> = programs.filter_map(|program| path(Some(program))).collect();
        self.members.push(Member {
            dependencies: dependencies.map(|table| table.keys().cloned().collect()).unwrap_or_default(),
            folder: parent(&library).to_owned(),
            manifest,
            name: name.clone(),
        });
        let root = self.add_root(sources, &library)?;
        self.libraries.insert(name.replace('-', "_"), root);
        for program in programs {
            self.add_root(sources, &joined(folder, &program))?;
        }
        Ok(())
    }

    fn add_root(&mut self, sources: &Sources, file: &str) -> Result<usize, ReadError> {
        let root = self.add_module(file, None);
        self.add_file(sources, root, parent(file))?;
        Ok(root)
    }

    fn add_module(&mut self, file: &str, parent: Option<usize>) -> usize {
        let root = parent.map_or(self.modules.len(), |parent| self.modules[parent].root);
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            root,
            children: BTreeMap::new(),
            uses: Vec::new(),
            paths: Vec::new(),
            items: BTreeSet::new(),
        });
        self.modules.len() - 1
    }

    /// Parses the file of a module, and the files of its modules, which lie in `folder`.
    fn add_file(&mut self, sources: &Sources, module: usize, folder: &str) -> Result<(), ReadError> {
        let file = self.modules[module].file.clone();
        let wrong = |line, message| ReadError::Rust { path: file.clone(), line, message };
        let text = sources.get(&file).ok_or_else(|| wrong(1, "no such file".into()))?;
        let parsed = Parsed::of(text).map_err(|error| wrong(error.span().start().line, error.to_string()))?;
        self.owners.insert(file.clone(), self.members.len() - 1);
        for Within { inline, line, what } in parsed.modules {
            let within = self.inner(module, &inline);
            if what.has_body {
                let inner = self.add_module(&file, Some(within));
                self.modules[within].children.insert(what.name, inner);
                continue;
            }
            let inline = inline.iter().fold(folder.to_owned(), |folder, name| joined(&folder, name));
            let (child, folder) = match &what.path {
                Some(path) => (joined(parent(&file), path), joined(parent(&file), parent(path))),
                None => {
                    let inner = joined(&inline, &what.name);
                    let flat = format!("{inner}.rs");
                    let child = if sources.get(&flat).is_some() { flat } else { format!("{inner}/mod.rs") };
                    (child, inner)
                }
            };
            if sources.get(&child).is_none() {
                return Err(ReadError::NoFile { path: file, line, name: what.name });
            }
            let inner = self.add_module(&child, Some(within));
            self.modules[within].children.insert(what.name, inner);
            self.add_file(sources, inner, &folder)?;
        }
        for Within { inline, what, .. } in parsed.items {
            let within = self.inner(module, &inline);
            self.modules[within].items.insert(what);
        }
        for Within { inline, line, what } in parsed.uses {
            let within = self.inner(module, &inline);
            self.modules[within].uses.push((line, what));
        }
        for Within { inline, line, what } in parsed.paths {
            let within = self.inner(module, &inline);
            self.modules[within].paths.push((line, what));
        }
        Ok(())
    }

    fn inner(&self, module: usize, inline: &[String]) -> usize {
        inline.iter().fold(module, |module, name| *self.modules[module].children.get(name).unwrap_or(&module))
    }

    /// What a module imports from other files. That a module shows what its own modules define is no import.
    fn imports_of(&self, module: usize) -> Vec<Import> {
        let from = &self.modules[module];
        let uses = from.uses.iter().filter_map(|(line, found)| {
            let target = match self.resolve(module, &found.path)? {
                Found::Module(target) | Found::Item(target) => target,
            };
            (!found.public || !self.is_below(target, module)).then_some((*line, target))
        });
        let paths = from.paths.iter().filter_map(|(line, path)| match self.resolve(module, path)? {
            Found::Module(target) | Found::Item(target) => Some((*line, target)),
        });
        let imports = uses.chain(paths).map(|(line, target)| Import {
            from: from.file.clone(),
            line,
            to: self.modules[target].file.clone(),
        });
        imports.filter(|import| import.from != import.to).collect()
    }

    fn is_below(&self, module: usize, above: usize) -> bool {
        module == above || self.modules[module].parent.is_some_and(|parent| self.is_below(parent, above))
    }
}

/// The folder of a file, without a slash at its end.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn joined(folder: &str, path: &str) -> String {
    let mut names: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}
