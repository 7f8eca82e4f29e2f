//! Human-readable forms of diagnostics: text lines, and file excerpts with marks.

use std::fmt;

use miette::{LabeledSpan, NamedSource, SourceCode, SourceSpan};

use super::{Diagnostic, Severity};
use crate::foreign::{LONGEST_TEXT, excerpt, visible};

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        })
    }
}

/// Writes `file:line:column: severity: message [rule]`, and the help text on a separate line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.origin(), self.severity, self.message)?;
        self.write_rule_and_help(f)
    }
}

impl Diagnostic {
    /// Formats `file:line:column`, or only the file if there is no position.
    fn origin(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            f.write_str(&self.file)?;
            match self.position {
                Some(position) => write!(f, ":{}:{}", position.line, position.column),
                None => Ok(()),
            }
        })
    }

    fn write_rule_and_help(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = &self.rule {
            write!(f, " [{rule}]")?;
        }
        match &self.help {
            Some(help) => write!(f, "\n    fix: {help}"),
            None => Ok(()),
        }
    }

    /// Formats `file:line:column: message`, without the help text.
    pub fn without_help(&self) -> impl fmt::Display {
        fmt::from_fn(|f| write!(f, "{}: {}", self.origin(), self.message))
    }

    /// Formats `file:line:column: message; help`.
    pub fn on_one_line(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            write!(f, "{}", self.without_help())?;
            match &self.help {
                Some(help) => write!(f, "; {help}"),
                None => Ok(()),
            }
        })
    }

    /// Formats like [`Display`](fmt::Display), with a sign instead of the severity name.
    pub fn with_sign(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            let sign = match self.severity {
                Severity::Error => "❌",
                Severity::Warning => "⚠",
            };
            write!(f, "{sign} {}: {}", self.origin(), self.message)?;
            self.write_rule_and_help(f)
        })
    }
}

/// The longest line of a file that is shown, in bytes.
const LONGEST_LINE: usize = 2000;

/// An unusable file with all its diagnostics.
///
/// `Display` writes plain lines `file:line:column: message; help`. The [`miette::Diagnostic`]
/// implementation shows file excerpts with marks.
#[derive(Debug)]
pub struct InvalidFile {
    source: NamedSource<String>,
    diagnostics: Vec<Diagnostic>,
}

impl InvalidFile {
    /// Sorts the diagnostics of one file by line.
    pub fn new(file: &str, text: &str, diagnostics: Vec<Diagnostic>) -> Self {
        // The file may be a stranger's, and its text is shown on terminals.
        let named = diagnostics.into_iter().map(|mut diagnostic| {
            diagnostic.message = visible(&diagnostic.message, LONGEST_TEXT);
            diagnostic.help = diagnostic.help.map(|help| visible(&help, LONGEST_TEXT));
            diagnostic.in_file(visible(file, LONGEST_TEXT))
        });
        let mut diagnostics: Vec<_> = named.collect();
        diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        diagnostics.dedup();
        // An excerpt shows whole lines.
        let shows = text.lines().all(|line| line.len() <= LONGEST_LINE);
        let text = if shows { excerpt(text) } else { String::new() };
        Self { source: NamedSource::new(visible(file, LONGEST_TEXT), text), diagnostics }
    }

    /// Returns all diagnostics, sorted by line.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl fmt::Display for InvalidFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let separator = if index > 0 { "\n" } else { "" };
            write!(f, "{separator}{}", diagnostic.on_one_line())?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidFile {}

impl miette::Diagnostic for InvalidFile {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.source.inner().is_empty()).then_some(&self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |diagnostic: &Diagnostic| {
            let span = diagnostic.span?;
            // Limit the span to the text regardless of the parser result; otherwise miette cannot show the
            // surrounding lines. The mark for a mapping covers only its first line.
            let text = self.source.inner();
            let offset = span.offset.min(text.len());
            let length = span.length.min(text.len() - offset);
            let bytes = &text.as_bytes()[offset..offset + length];
            let length = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(length);
            let span = SourceSpan::from((offset, length));
            Some(LabeledSpan::new_with_span(Some(diagnostic.message.clone()), span))
        };
        self.source_code()?;
        Some(Box::new(self.diagnostics.iter().filter_map(label)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Diagnostics, Position};
    use super::*;

    fn diagnostic() -> Diagnostic {
        let place = Position { line: 3, column: 5 };
        Diagnostic::at(&place, "it is wrong").in_file("a.yaml").rule("wrong").help("correct it")
    }

    #[test]
    fn every_form_has_the_place_and_the_message() {
        let warning = diagnostic().severity(Severity::Warning);
        assert_eq!(diagnostic().to_string(), "a.yaml:3:5: error: it is wrong [wrong]\n    fix: correct it");
        assert_eq!(diagnostic().without_help().to_string(), "a.yaml:3:5: it is wrong");
        assert_eq!(diagnostic().on_one_line().to_string(), "a.yaml:3:5: it is wrong; correct it");
        assert_eq!(warning.with_sign().to_string(), "⚠ a.yaml:3:5: it is wrong [wrong]\n    fix: correct it");
        let whole = Diagnostic::of_file("it is empty").in_file("a.yaml");
        assert_eq!(whole.on_one_line().to_string(), "a.yaml: it is empty");
    }

    #[test]
    fn what_is_not_known_is_not_in_the_json() {
        let json = serde_json::to_string(&diagnostic()).expect("json");
        assert_eq!(
            json,
            "{\"file\":\"a.yaml\",\"place\":{\"line\":3,\"column\":5},\"severity\":\"error\",\"rule\":\"wrong\",\
             \"message\":\"it is wrong\",\"help\":\"correct it\"}"
        );
        assert_eq!(serde_json::from_str::<Diagnostic>(&json).expect("read"), diagnostic());
        let whole = serde_json::to_string(&Diagnostic::of_file("it is empty")).expect("json");
        assert_eq!(whole, "{\"file\":\"\",\"severity\":\"error\",\"message\":\"it is empty\"}");
    }

    #[test]
    fn a_list_is_in_order_and_has_each_once() {
        let later = Diagnostic { position: Some(Position { line: 9, column: 1 }), ..diagnostic() };
        let whole = Diagnostic { position: None, severity: Severity::Warning, ..diagnostic() };
        let all = vec![later.clone(), diagnostic(), whole.clone(), diagnostic()];
        let by_place = Diagnostics::by_place(all.clone());
        assert_eq!(by_place.iter().collect::<Vec<_>>(), [&whole, &diagnostic(), &later]);
        assert_eq!((by_place.count(Severity::Error), by_place.count(Severity::Warning)), (2, 1));
        let worst = Diagnostics::worst_first(all);
        assert_eq!(worst.iter().collect::<Vec<_>>(), [&later, &diagnostic(), &diagnostic(), &whole]);
    }

    #[test]
    fn a_line_of_megabytes_is_not_shown() {
        let marked = Diagnostic { span: Some(super::super::Span { offset: 3, length: 4 }), ..diagnostic() };
        let report =
            format!("{:?}", miette::Report::new(InvalidFile::new("a", &"[".repeat(3 << 20), vec![marked])));
        assert!(report.len() < 1000 && report.contains("it is wrong"), "{} bytes", report.len());
    }

    #[test]
    fn nothing_in_the_report_about_a_file_reaches_a_terminal_as_an_escape() {
        let text = "a: \x1b]0;title\x07\nb: \u{202e}x\r\n";
        let marked = Diagnostic {
            message: "unknown key \"\x1b[2J\n::error::\"".into(),
            span: Some(super::super::Span { offset: 3, length: 4 }),
            ..diagnostic()
        };
        let file = InvalidFile::new("a\x1b.yaml", text, vec![marked]);
        for shown in [file.to_string(), format!("{:?}", miette::Report::new(file))] {
            let plain = shown.replace(['\n', '\t'], "");
            // The handler's own colours aside, which it writes to terminals only.
            assert!(!plain.contains(crate::foreign::is_hidden), "{plain:?}");
        }
    }

    #[test]
    fn a_mark_past_the_end_of_the_text_is_cut() {
        use miette::Diagnostic as _;
        let of = |offset, length| {
            let marked = Diagnostic { span: Some(super::super::Span { offset, length }), ..diagnostic() };
            let file = InvalidFile::new("a.yaml", "a: 1\nb: 2\n", vec![marked]);
            let label = file.labels().expect("labels").next().expect("a label");
            (label.offset(), label.len())
        };
        assert_eq!(of(0, 9), (0, 4));
        assert_eq!(of(7, 99), (7, 2));
        assert_eq!(of(99, 1), (10, 0));
    }
}
