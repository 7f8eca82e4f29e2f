//! Errors in YAML files of the lab's own formats, with the position and the closest valid word.

use serde_saphyr::Error;

use super::Diagnostic;
use crate::words::choice;

/// Options for files in the lab's own formats: positions instead of snippets, and only `true` and `false` as
/// booleans, like the YAML 1.2 parsers for machine configs.
pub fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! { with_snippet: false, strict_booleans: true }
}

/// Converts an error of the YAML parser to a message for the author of the file.
pub fn from_yaml(error: &Error) -> Diagnostic {
    let error = error.without_snippet();
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
    let mut diagnostic = match error.location() {
        Some(location) => Diagnostic::at(&location, message),
        None => Diagnostic::of_file(message),
    };
    diagnostic.help = help;
    diagnostic
}

/// Returns a readable name for a type of the YAML parser.
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

/// Returns the first line of the parser's message, without the position, which the lab shows separately.
fn without_place(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    line.split(" at line ").next().unwrap_or_default().to_owned()
}
