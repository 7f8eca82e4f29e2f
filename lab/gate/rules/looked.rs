//! The result of a rule.

use lab_model::{Diagnostic, LONGEST_TEXT, Position, Severity, visible};

/// What a rule has looked at, and what it has found.
#[derive(Debug, Default)]
pub struct Looked {
    /// The number of things that the rule has looked at.
    pub subjects: usize,
    pub findings: Vec<Diagnostic>,
}

impl Looked {
    /// Counts a thing that the rule looks at.
    pub fn at_one(&mut self) {
        self.subjects += 1;
    }

    /// Adds an error: where, the cause, and what to do.
    pub fn error(&mut self, place: &str, cause: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, place, None, cause.into(), remedy.into());
    }

    pub fn warning(&mut self, place: &str, cause: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, place, None, cause.into(), remedy.into());
    }

    /// Adds an error at a position of a file.
    pub fn error_at(
        &mut self,
        file: &str,
        position: Position,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Error, file, Some(position), cause.into(), remedy.into());
    }

    pub fn warning_at(
        &mut self,
        file: &str,
        position: Position,
        cause: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Warning, file, Some(position), cause.into(), remedy.into());
    }

    fn add(
        &mut self,
        severity: Severity,
        place: &str,
        position: Option<Position>,
        cause: String,
        remedy: String,
    ) {
        // Images and registries write parts of all three.
        let finding = Diagnostic::of_file(visible(&cause, LONGEST_TEXT))
            .in_file(visible(place, LONGEST_TEXT))
            .severity(severity)
            .help(visible(&remedy, LONGEST_TEXT));
        self.findings.push(Diagnostic { position, ..finding });
    }
}

/// Joins the first names of a list, with the number of all others.
pub(super) fn some_of<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<_> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}
