//! From a path to the module that defines what it names.

use crate::workspace::Workspace;

/// How many names a path may be passed on by. More are a circle of `pub use`.
const LONGEST_CHAIN: usize = 16;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A module.
    Module(usize),
    /// Something that this module defines.
    Item(usize),
}

impl Workspace {
    /// What a path in a module names; `None` when it is of a crate outside of the workspace or a local name.
    pub(crate) fn resolve(&self, scope: usize, path: &[String]) -> Option<Found> {
        self.follow(scope, path, LONGEST_CHAIN)
    }

    fn follow(&self, scope: usize, path: &[String], left: usize) -> Option<Found> {
        let left = left.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" => Found::Module(self.modules[scope].root),
            "self" => Found::Module(scope),
            "super" => Found::Module(self.modules[scope].parent?),
            name => match self.named(scope, name, left) {
                Some(found) => found,
                None => Found::Module(*self.libraries.get(name)?),
            },
        };
        rest.iter().try_fold(start, |found, name| match found {
            // What follows an item is a variant, a method or a constant of it.
            Found::Item(_) => Some(found),
            Found::Module(module) if name == "super" => self.modules[module].parent.map(Found::Module),
            // A macro may define what is not seen in the text.
            Found::Module(module) => Some(self.named(module, name, left).unwrap_or(Found::Item(module))),
        })
    }

    /// What a name means in a module: its own modules and items first, then what it imports.
    fn named(&self, module: usize, name: &str, left: usize) -> Option<Found> {
        let within = &self.modules[module];
        if let Some(&child) = within.children.get(name) {
            return Some(Found::Module(child));
        }
        if within.items.contains(name) {
            return Some(Found::Item(module));
        }
        let uses = within.uses.iter().map(|(_, found)| found);
        let (globs, names): (Vec<_>, Vec<_>) = uses.partition(|found| found.name.is_none());
        let imported = names.iter().find(|found| found.name.as_deref() == Some(name));
        if let Some(found) = imported.and_then(|found| self.follow(module, &found.path, left)) {
            return Some(found);
        }
        let left = left.checked_sub(1)?;
        globs.iter().find_map(|glob| match self.follow(module, &glob.path, left)? {
            Found::Module(target) if target != module => self.named(target, name, left),
            _ => None,
        })
    }
}
