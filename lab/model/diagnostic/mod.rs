//! Diagnostics for user-supplied files. Every check uses the same form: scenario files, machine configs,
//! patches and node images.
//!
//! This module holds plain data. [`Position`] and [`Span`] locate a problem, [`Diagnostics`] is an ordered
//! list, and [`InvalidFile`] is the error for an unusable file. `render` contains all human-readable forms.

mod position;
mod render;
mod yaml;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use position::{Located, Position, Span};
pub use render::InvalidFile;
pub use yaml::{from_yaml, yaml_options};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The problem prevents the use of the file.
    Error,
    /// The file is usable, but its content may not match the author's intent.
    Warning,
}

/// A problem in a file. The message contains no secret values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file or image, as the user named it.
    pub file: String,
    /// Line and column; `None` if the diagnostic applies to the whole file.
    #[serde(rename = "place", default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The bytes to mark in a rendered excerpt, if the reader provides them.
    #[serde(skip)]
    pub span: Option<Span>,
    pub severity: Severity,
    /// The ID of the rule or check, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Cow<'static, str>>,
    /// The problem, as a lower-case fragment.
    pub message: String,
    /// The suggested fix, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// Creates an error at a value. [`Self::in_file`] or [`InvalidFile::new`] adds the file name.
    pub fn at(value: &impl Located, message: impl Into<String>) -> Self {
        Self { position: value.position(), span: value.span(), ..Self::of_file(message) }
    }

    /// Creates an error for a whole file.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self {
            file: String::new(),
            position: None,
            span: None,
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            help: None,
        }
    }

    /// Sets the file name.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }

    /// Sets the severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Sets the rule ID.
    #[must_use]
    pub fn rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// Sets the suggested fix.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// An ordered list of diagnostics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Sorts by file and line, and removes duplicates.
    pub fn by_place(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort();
        diagnostics.dedup();
        Self(diagnostics)
    }

    /// Sorts by severity, errors first. Diagnostics of equal severity keep their order.
    pub fn worst_first(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.severity);
        Self(diagnostics)
    }

    /// Iterates over the diagnostics in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts the diagnostics of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The YAML parser records the position of each scenario value.
impl<T> Located for serde_saphyr::Spanned<T> {
    fn position(&self) -> Option<Position> {
        self.referenced.position()
    }

    fn span(&self) -> Option<Span> {
        Located::span(&self.referenced)
    }
}

impl Located for serde_saphyr::Location {
    fn position(&self) -> Option<Position> {
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        // The parser returns line 0 if it does not know the position.
        (self.line() > 0).then(|| Position { line: number(self.line()), column: number(self.column()) })
    }

    fn span(&self) -> Option<Span> {
        let bytes = serde_saphyr::Location::span(self);
        let number = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        self.position()
            .map(|_| Span { offset: number(bytes.byte_offset()), length: number(bytes.byte_len()) })
    }
}
