//! Takes apart the texts of the library's errors.
//!
//! Sources: machinery `config/configloader/internal/decoder`, `gen/xyaml`, and the error types of the YAML
//! packages of each release ("unmarshal errors" in 1.11, "construct errors" since 1.13).

/// The causes in an error of the loader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Causes<'a> {
    /// Keys that the release does not read.
    UnknownKeys,
    /// Values of the wrong type, each with its line.
    Values(Vec<(usize, &'a str)>),
    /// A kind or version of a document that the release does not have.
    NotRegistered,
    /// Two documents of one kind and name.
    Twice,
    /// Text that is not YAML.
    Syntax,
    /// Another error, without the words before it.
    Other(&'a str),
}

impl<'a> Causes<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let inner = inner(text);
        let values: Vec<_> = inner.lines().filter_map(value).collect();
        if inner.contains("unknown keys found during decoding") {
            Self::UnknownKeys
        } else if !values.is_empty() {
            Self::Values(values)
        } else if inner.ends_with("not registered")
            || ["missing kind", "missing apiVersion"].iter().any(|start| inner.starts_with(start))
        {
            Self::NotRegistered
        } else if inner.starts_with("duplicate document") {
            Self::Twice
        } else if inner.starts_with("decode error") {
            Self::Syntax
        } else {
            Self::Other(inner)
        }
    }
}

/// Removes the words that name the document and its Go type.
fn inner(text: &str) -> &str {
    let mut inner = text;
    if inner.starts_with("error decoding document")
        && let Some((_, rest)) = inner.split_once("): ")
    {
        inner = rest;
    }
    if inner.starts_with("error decoding ")
        && let Some((before, rest)) = inner.split_once(": ")
        && before.contains(" to *")
    {
        inner = rest;
    }
    inner
}

/// Splits `  line 5: cannot construct …`.
fn value(line: &str) -> Option<(usize, &str)> {
    let (number, text) = line.trim_start().strip_prefix("line ")?.split_once(": ")?;
    Some((number.parse().ok()?, text))
}

/// Returns the number in `(line 7)`, which the library writes after the name of a document.
pub(super) fn document_line(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once("(line ")?;
    rest.split(')').next()?.parse().ok()
}

/// Returns the number in `line 7:`, which the YAML package writes in an error of syntax.
pub(super) fn syntax_line(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once("line ")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

/// Returns the texts in quotation marks or backquotes.
pub(super) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    ['"', '`'].into_iter().flat_map(move |mark| text.split(mark).skip(1).step_by(2))
}

/// Hides the value in `cannot construct !!str `abcdef…` into bool`.
pub(super) fn without_value(text: &str) -> String {
    match (text.find('`'), text.rfind('`')) {
        (Some(from), Some(to)) if from < to => format!("{}`…`{}", &text[..from], &text[to + 1..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_before_the_causes_are_removed() {
        let new = "error decoding document /v1alpha1/ (line 1): error decoding  to *v1alpha1.Config: yaml: construct \
                   errors:\n  line 5: cannot construct !!float `1500.5` into int\n  line 6: cannot construct !!str `inf` into int";
        let expected = Causes::Values(vec![
            (5, "cannot construct !!float `1500.5` into int"),
            (6, "cannot construct !!str `inf` into int"),
        ]);
        assert_eq!(Causes::of(new), expected);
        let kind = "error decoding document v1/A/x (line 3): \"A\" \"v1\": not registered";
        assert_eq!((Causes::of(kind), document_line(kind)), (Causes::NotRegistered, Some(3)));
        let keys = "error decoding document /v1alpha1/ (line 1): unknown keys found during decoding:\na: 1\n";
        assert_eq!(Causes::of(keys), Causes::UnknownKeys);
        let syntax = "decode error: yaml: line 4: mapping values are not allowed in this context";
        assert_eq!((Causes::of(syntax), syntax_line(syntax)), (Causes::Syntax, Some(4)));
        assert_eq!(Causes::of("config not found"), Causes::Other("config not found"));
    }

    #[test]
    fn values_are_found_and_hidden() {
        let text = "cannot construct !!str `abcdefg...` into bool";
        assert_eq!(quoted(text).collect::<Vec<_>>(), ["abcdefg..."]);
        assert_eq!(without_value(text), "cannot construct !!str `…` into bool");
        assert_eq!(without_value("no value"), "no value");
    }
}
