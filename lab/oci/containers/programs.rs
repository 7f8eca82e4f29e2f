//! What a container of an image starts, and the programs in its layers that are not for arm64.

use std::collections::{BTreeMap, BTreeSet};

use lab_image::{PathEntry, resolve_path};
use serde::Serialize;

use super::{
    image::ContainerImage,
    layer_facts::{LayerEntry, LayerFacts},
};

/// The search path of a container whose image does not set one (runc, containerd).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest chain of wrapper scripts, and the maximum number of programs that are followed.
const CHAIN: usize = 16;
const FOLLOWED: usize = 256;

/// What an image is, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageKind {
    /// It has programs.
    Programs,
    /// It has scripts and no program of its own.
    Scripts,
    /// It has neither programs nor scripts.
    Data,
    /// Its config names WebAssembly.
    Wasm,
    /// It is not an image but another kind of artefact, such as a Helm chart.
    Artefact,
}

/// A program that is not for arm64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignProgram {
    /// The path in the image.
    pub path: String,
    /// The number of its layer, from 1.
    pub layer: usize,
    /// The architecture.
    pub machine: String,
    /// How the entrypoint leads to it, if it does: the paths on the way, from the entrypoint.
    pub started_by: Option<Vec<String>>,
    /// Whether a container finds it: it lies in a directory of the search path, or may be run, lies below the working
    /// directory, and no arm64 program of the image has its name. Scripts start such programs by paths in variables.
    pub in_path: bool,
}

/// The programs of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    pub kind: ImageKind,
    /// The number of executable programs for arm64.
    pub native: usize,
    /// The programs that are not for arm64, those that a container starts first.
    pub foreign: Vec<ForeignProgram>,
    /// What a container starts, as written, if the config names it.
    pub entrypoint: Option<String>,
    /// The chain from the entrypoint to the first program that is no script: evidence that it was followed.
    pub chain: Vec<String>,
    /// What the entrypoint names, and what no layer has.
    pub missing: Vec<String>,
}

/// The stacked layers.
struct Stack<'a> {
    entries: BTreeMap<&'a str, (usize, &'a LayerEntry)>,
    search: Vec<String>,
}

impl<'a> Stack<'a> {
    fn of(image: &'a ContainerImage) -> Self {
        let mut entries: BTreeMap<&str, (usize, &LayerEntry)> = BTreeMap::new();
        for (number, layer) in (1..).zip(&image.layers) {
            remove(&mut entries, layer);
            entries.extend(layer.entries.iter().map(|(path, entry)| (path.as_str(), (number, entry))));
        }
        let env = image.command.env.iter().flatten().find_map(|entry| entry.strip_prefix("PATH="));
        let search = env.unwrap_or(PATH).split(':').map(str::to_owned).collect();
        Self { entries, search }
    }

    /// Follows symbolic links. Directories have no entries, so a path exists if something that is kept lies there.
    fn resolved(&self, path: &str) -> Option<(String, usize, &'a LayerEntry)> {
        let path = resolve_path(path, |path| match self.entries.get(path) {
            Some((_, LayerEntry::Link(target))) => PathEntry::Link(target.clone()),
            _ => PathEntry::Other,
        })?;
        let (layer, entry) = self.entries.get(path.as_str())?;
        Some((path, *layer, entry))
    }

    /// Looks for a program as a container does: a path as it is, and a name in the search path.
    fn lookup(&self, name: &str, directory: &str) -> Option<(String, usize, &'a LayerEntry)> {
        if name.starts_with('/') {
            return self.resolved(name);
        }
        if name.contains('/') {
            return self.resolved(&format!("{directory}/{name}"));
        }
        self.search.iter().find_map(|directory| self.resolved(&format!("{directory}/{name}")))
    }
}

/// Removes what a layer hides.
fn remove<'a>(entries: &mut BTreeMap<&'a str, (usize, &'a LayerEntry)>, layer: &LayerFacts) {
    if layer.removed.is_empty() {
        return;
    }
    let hidden = |path: &str| {
        let mut parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        layer.removed.contains("")
            || layer.removed.contains(path)
            || parents.any(|parent| layer.removed.contains(parent))
    };
    entries.retain(|path, _| !hidden(path));
}

impl Programs {
    /// Looks at a stack of layers.
    pub(super) fn of(image: &ContainerImage) -> Self {
        let stack = Stack::of(image);
        let mut started = Started::default();
        let command = &image.command;
        let words: Vec<&String> = command.entrypoint.iter().chain(&command.cmd).flatten().collect();
        let directory = command.working_dir.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let follows = image.is_image() && !image.is_wasm();
        let entrypoint = words.first().filter(|word| follows && !word.is_empty());
        if let Some(word) = entrypoint {
            started.follow(&stack, word, directory, &[]);
            // `tini -- /app` and `sh -c …` start what their arguments name.
            for word in words.iter().skip(1).filter(|word| word.starts_with('/')) {
                started.follow_if_there(&stack, word, directory, &[]);
            }
        }
        let search: BTreeSet<_> = stack.search.iter().map(|path| path.trim_matches('/')).collect();
        let own = directory.trim_matches('/');
        let is_own =
            |path: &str| !own.is_empty() && path.strip_prefix(own).is_some_and(|rest| rest.starts_with('/'));
        let name = |path: &'_ str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let native_names: BTreeSet<String> = stack
            .entries
            .iter()
            .filter_map(|(path, (_, entry))| match entry {
                LayerEntry::Program { head, executable: true } if head.is_arm64() => Some(name(path)),
                _ => None,
            })
            .collect();
        let (mut native, mut scripts, mut foreign) = (0, 0, Vec::new());
        for (path, (layer, entry)) in &stack.entries {
            let (head, executable) = match entry {
                LayerEntry::Program { head, executable } if head.is_arm64() => {
                    native += usize::from(*executable);
                    continue;
                }
                LayerEntry::Program { head, executable } if head.is_program && !head.is_bytecode() => {
                    (head, *executable)
                }
                LayerEntry::Script(_) => {
                    scripts += 1;
                    continue;
                }
                _ => continue,
            };
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            foreign.push(ForeignProgram {
                path: (*path).to_owned(),
                layer: *layer,
                machine: head.machine_name(),
                started_by: started.ways.get(*path).cloned(),
                in_path: search.contains(parent)
                    || executable && is_own(path) && !native_names.contains(&name(path)),
            });
        }
        foreign.sort_by_key(|program| (program.started_by.is_none(), !program.in_path));
        let kind = image.kind(native, foreign.len(), scripts);
        Self {
            kind,
            native,
            foreign,
            entrypoint: entrypoint.map(|word| (*word).clone()),
            chain: started.chain,
            missing: if [ImageKind::Programs, ImageKind::Scripts].contains(&kind) || entrypoint.is_some() {
                started.missing
            } else {
                Vec::new()
            },
        }
    }
}

/// What the entrypoint leads to.
#[derive(Default)]
struct Started {
    /// Each reached path, with the paths on the way to it.
    ways: BTreeMap<String, Vec<String>>,
    chain: Vec<String>,
    missing: Vec<String>,
}

impl Started {
    fn follow(&mut self, stack: &Stack<'_>, word: &str, directory: &str, way: &[String]) {
        if !self.follow_if_there(stack, word, directory, way) {
            let via = if way.is_empty() { String::new() } else { format!(" (by {})", way.join(" → ")) };
            self.missing.push(format!("{word}{via}"));
        }
    }

    /// Follows a program, if a layer has it.
    fn follow_if_there(&mut self, stack: &Stack<'_>, word: &str, directory: &str, way: &[String]) -> bool {
        let Some((path, _, entry)) = stack.lookup(word, directory) else { return false };
        let mut on = way.to_vec();
        on.push(format!("/{path}"));
        let ends = !matches!(entry, LayerEntry::Script(_));
        if ends && self.chain.is_empty() {
            self.chain.clone_from(&on);
        }
        if self.ways.len() >= FOLLOWED || self.ways.insert(path, on.clone()).is_some() || on.len() > CHAIN {
            return true;
        }
        if let LayerEntry::Script(script) = entry {
            self.follow(stack, &script.interpreter, "/", &on);
            if let Some(name) = &script.env {
                self.follow(stack, name, "/", &on);
            }
            // A script may start programs that only some hosts have, so those may be missing.
            for name in &script.starts {
                self.follow_if_there(stack, name, directory, &on);
            }
        }
        true
    }
}

#[cfg(test)]
#[path = "programs_tests.rs"]
mod tests;
