//! Signature files: parser, checks with line numbers, and tests of the examples.

use std::{
    io,
    path::{Path, PathBuf},
};

use lab_model::words::choice;
use regex::Regex;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::signatures::{Examples, Given, Signature, SignatureSource};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: Spanned<String>,
    #[serde(rename = "where")]
    place: SignatureSource,
    source: Option<String>,
    pattern: Spanned<String>,
    cause: String,
    fix: String,
    given: Option<RawGiven>,
    link: Option<String>,
    examples: Option<Spanned<Examples>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGiven {
    note: Spanned<String>,
    fix: String,
}

/// A signature file is invalid.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The file cannot be read.
    #[error("read the signatures of {}: {source}", path.display())]
    Read {
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content of the file is invalid.
    #[error("{}:{line}: {message}", path.display())]
    Wrong {
        path: PathBuf,
        /// Line number, starting at 1.
        line: u64,
        /// The problem and the fix.
        message: String,
    },
}

/// Parses signatures and tests their examples.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Signature>, SignatureError> {
    let wrong = |line: u64, message: String| SignatureError::Wrong {
        path: path.to_owned(),
        line: line.max(1),
        message,
    };
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let raw: Vec<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let error = error.without_snippet();
        wrong(error.location().map_or(1, |place| place.line()), in_words(error))
    })?;
    let mut signatures: Vec<Signature> = Vec::new();
    for raw in raw {
        let line = raw.id.referenced.line();
        if signatures.iter().any(|known| known.id == raw.id.value) {
            return Err(wrong(line, format!("the id {} is used twice", raw.id.value)));
        }
        let regex = |text: &Spanned<String>| {
            Regex::new(&text.value).map_err(|error| {
                let message = format!("the pattern is not a regular expression: {}", last_line(&error));
                wrong(text.referenced.line(), message)
            })
        };
        let pattern = regex(&raw.pattern)?;
        let given = match raw.given {
            Some(given) => Some(Given { note: regex(&given.note)?, fix: given.fix.trim_end().to_owned() }),
            None => None,
        };
        if let Some(examples) = &raw.examples {
            let line = examples.referenced.line();
            if !pattern.is_match(&examples.value.matches) {
                return Err(wrong(
                    line,
                    format!("{}: the pattern does not match its own example \"matches\"", raw.id.value),
                ));
            }
            if pattern.is_match(&examples.value.differs) {
                return Err(wrong(
                    line,
                    format!("{}: the pattern matches the example that \"differs\"", raw.id.value),
                ));
            }
        }
        signatures.push(Signature {
            id: raw.id.value,
            place: raw.place,
            source: raw.source,
            pattern,
            cause: raw.cause.trim_end().to_owned(),
            fix: raw.fix.trim_end().to_owned(),
            given,
            link: raw.link,
            examples: raw.examples.map(|examples| examples.value),
        });
    }
    Ok(signatures)
}

fn in_words(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let advice = |choice: Option<String>| choice.map(|choice| format!("; {choice}")).unwrap_or_default();
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("unknown key \"{field}\"{}", advice(choice(field, expected, "keys here")))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("unknown value \"{variant}\"{}", advice(choice(variant, expected, "values here")))
        }
        Error::SerdeMissingField { field, .. } => format!("the key \"{field}\" is missing"),
        other => {
            let text = other.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            let line = line.split(" at line ").next().unwrap_or_default();
            format!("{line}; a signature file is a list of mappings with id, where, pattern, cause and fix")
        }
    }
}

/// The regex crate prints the pattern first and the reason last.
fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::{super::signatures::OWN, *};

    #[test]
    fn a_file_that_is_wrong_is_told_with_its_line() {
        let says = |text: &str| parse(Path::new("mine.yaml"), text).expect_err("wrong").to_string();
        let good = "- id: a\n  where: console\n  pattern: 'a+'\n  cause: c\n  fix: f\n";
        assert_eq!(parse(Path::new("mine.yaml"), good).expect("good").len(), 1);
        insta::assert_snapshot!(
            [
                says(&good.replace("a+", "(a")),
                says(&good.replace("console", "consoles")),
                says(&good.replace("  fix: f\n", "")),
                says(&good.replace("fix", "fxi")),
                says(&format!("{good}{good}")),
                says(&format!("{good}  examples:\n    matches: b\n    differs: c\n")),
                says(&format!("{good}  examples:\n    matches: a\n    differs: aa\n")),
                says("just words\n"),
                says("- id: [\n"),
            ]
            .join("\n")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(text in "[-a-z:'\"\\n\\[\\]{}|>()*+? ]{0,120}") {
            let _ = parse(Path::new("mine.yaml"), &text);
        }

        #[test]
        fn a_damaged_file_of_the_labs_own_does_not_either(at in 0..OWN.len(), text in "[ -~\n]{0,3}") {
            let at = (at..OWN.len()).find(|at| OWN.is_char_boundary(*at)).unwrap_or(OWN.len());
            let (before, after) = OWN.split_at(at);
            let _ = parse(Path::new("mine.yaml"), &format!("{before}{text}{after}"));
        }
    }
}
