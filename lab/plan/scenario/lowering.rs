//! What the parts of a scenario file share while they are lowered.

use std::{io, path::Path};

use lab_model::Diagnostic;

/// What lowering the parts of a file needs, and the problems it has found so far. Parts report and
/// go on with a default, so that one run finds everything.
pub(super) struct Lowering<'a> {
    pub file: &'a str,
    pub directory: &'a Path,
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    pub problems: Vec<Diagnostic>,
}

impl Lowering<'_> {
    pub fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }
}
