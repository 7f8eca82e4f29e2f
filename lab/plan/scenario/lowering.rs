//! Shared state of the lowering functions for scenario files.

use std::{io, path::Path};

use lab_model::Diagnostic;

/// The lowering context, with the problems found so far. After an error, each part continues with a
/// default, so one run reports all problems.
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
