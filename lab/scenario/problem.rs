//! What is wrong with a scenario file, said with the place and the nearest right word.

use std::fmt;

use lab_model::words::choice;
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use serde_saphyr::{Location, Spanned};

/// A scenario file that cannot be used.
///
/// `Display` gives plain lines `file:line:column: what; help`; as a [`miette::Diagnostic`] it
/// shows the lines of the file with marks.
#[derive(Debug)]
pub struct ScenarioError {
    source: NamedSource<String>,
    problems: Vec<Problem>,
}

/// One thing that is wrong with a scenario file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What, as a lower-case fragment.
    pub message: String,
    /// What to do, where that is known.
    pub help: Option<String>,
    /// Where; `None` when it is about the whole file.
    pub place: Option<Place>,
}

/// A place in a scenario file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
    offset: usize,
    length: usize,
}

impl Place {
    fn of(location: Location) -> Option<Self> {
        // Line 0 is how the parser says that it does not know.
        (location.line() > 0).then(|| Self {
            line: location.line(),
            column: location.column(),
            offset: location.span().byte_offset().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            length: location.span().byte_len().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        })
    }
}

impl Problem {
    /// A problem with the value at a place.
    pub fn at<T>(value: &Spanned<T>, message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, place: Place::of(value.referenced) }
    }

    /// A problem with the file as a whole.
    pub fn of_file(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, place: None }
    }

    /// The same problem with advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What the YAML reader found, in the words of a person who writes scenario files.
    pub(super) fn from_yaml(error: &serde_saphyr::Error) -> Self {
        use serde_saphyr::Error;
        let error = error.without_snippet();
        let place = error.location().and_then(Place::of);
        let (message, help) = match error {
            Error::SerdeUnknownField { field, expected, .. } => {
                (format!("unknown key \"{field}\""), choice(field, expected, "keys here"))
            }
            Error::SerdeUnknownVariant { variant, expected, .. } => {
                (format!("unknown value \"{variant}\""), choice(variant, expected, "values here"))
            }
            Error::SerdeMissingField { field, .. } => {
                (format!("the key \"{field}\" is missing"), Some(format!("add `{field}: …`")))
            }
            Error::DuplicateMappingKey { key, .. } => (
                key.as_ref()
                    .map_or("a key is given twice".to_owned(), |k| format!("the key \"{k}\" is given twice")),
                Some("keep one of them".to_owned()),
            ),
            Error::SerdeInvalidType { unexpected, expected, .. }
            | Error::SerdeInvalidValue { unexpected, expected, .. } => {
                (format!("wrong type: expected {expected}, found {unexpected}"), None)
            }
            Error::InvalidScalar { ty, .. } => (format!("wrong type: expected {}", type_words(ty)), None),
            Error::InvalidBooleanStrict { .. } => ("wrong type: expected true or false".to_owned(), None),
            Error::Unexpected { expected, .. } => (format!("expected {}", type_words(expected)), None),
            Error::Eof { .. } => ("the file ends too early, or is empty".to_owned(), None),
            other => (without_place(&other.to_string()), None),
        };
        Self { message, help, place }
    }
}

/// What a type of the YAML reader is called by people.
fn type_words(ty: &str) -> &str {
    match ty {
        "bool" | "boolean" => "true or false",
        "mapping start" => "a mapping (`key: value` lines or {…})",
        "sequence start" => "a list (`- …` lines or […])",
        "string scalar" | "scalar" => "a text",
        "usize" | "u32" | "u64" => "a whole number that is not negative",
        "f64" => "a number",
        other => other,
    }
}

/// The first line of the parser's own text, without the place, which is shown anyway.
fn without_place(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    line.split(" at line ").next().unwrap_or_default().to_owned()
}

impl ScenarioError {
    pub(super) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.place.map_or((0, 0), |place| (place.line, place.column)));
        problems.dedup();
        Self { source: NamedSource::new(file, text.to_owned()), problems }
    }

    /// Everything that is wrong, from top to bottom.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(self.source.name())?;
            if let Some(place) = problem.place {
                write!(f, ":{}:{}", place.line, place.column)?;
            }
            write!(f, ": {}", problem.message)?;
            if let Some(help) = &problem.help {
                write!(f, "; {help}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ScenarioError {}

impl Diagnostic for ScenarioError {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |problem: &Problem| {
            let place = problem.place?;
            // A span never reaches past the text, whatever the parser says, or the lines around it
            // cannot be shown. A mapping's mark is cut to its first line.
            let text = self.source.inner();
            let offset = place.offset.min(text.len());
            let length = place.length.min(text.len() - offset);
            let bytes = &text.as_bytes()[offset..offset + length];
            let length = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(length);
            let span = SourceSpan::from((offset, length));
            Some(LabeledSpan::new_with_span(Some(problem.message.clone()), span))
        };
        Some(Box::new(self.problems.iter().filter_map(label)))
    }
}
