//! What is wrong with a file that a user gave, in one form for every check: scenario files, machine
//! configs, patches and node images.
//!
//! Plain data. [`Position`] and [`Span`] say where, [`Diagnostics`] is a list in a defined order, and
//! [`InvalidFile`] is the error of a file that cannot be used. `render` holds every form in which people
//! read them.

mod position;
mod render;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use position::{Located, Position, Span};
pub use render::InvalidFile;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// What is wrong prevents the use of the file.
    Error,
    /// The file can be used, but may not say what its author means.
    Warning,
}

/// One thing that is wrong with a file. Its message holds no value that may be secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file or image, as the user named it.
    pub file: String,
    /// Line and column; `None` when the whole file is meant.
    #[serde(rename = "place", default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The bytes that a rendering with lines of the file marks, if the reader of the file knows them.
    #[serde(skip)]
    pub span: Option<Span>,
    /// How bad it is.
    pub severity: Severity,
    /// The id of the rule or check, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Cow<'static, str>>,
    /// What is wrong, as a lower-case fragment.
    pub message: String,
    /// What to do, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a value of a file, which [`Self::in_file`] or [`InvalidFile::new`] names.
    pub fn at(value: &impl Located, message: impl Into<String>) -> Self {
        Self { position: value.position(), span: value.span(), ..Self::of_file(message) }
    }

    /// An error of a file as a whole.
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

    /// The same with the name of the file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = file.into();
        self
    }

    /// The same with a severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same with the id of the rule that found it.
    #[must_use]
    pub fn rule(mut self, rule: impl Into<Cow<'static, str>>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// The same with advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Diagnostics in a defined order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// In the order of files and lines; equal ones count once.
    pub fn by_place(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort();
        diagnostics.dedup();
        Self(diagnostics)
    }

    /// The worst first, otherwise in the order in which they were found.
    pub fn worst_first(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.severity);
        Self(diagnostics)
    }

    /// All of them, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many have a severity.
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

/// A value of a scenario file knows where it stands.
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
        // Line 0 is how the parser says that it does not know.
        (self.line() > 0).then(|| Position { line: number(self.line()), column: number(self.column()) })
    }

    fn span(&self) -> Option<Span> {
        let bytes = serde_saphyr::Location::span(self);
        let number = |n: Option<u64>| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        self.position()
            .map(|_| Span { offset: number(bytes.byte_offset()), length: number(bytes.byte_len()) })
    }
}
