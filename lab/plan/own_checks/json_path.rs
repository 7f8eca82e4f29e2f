//! JSONPath expressions (RFC 9535).

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::limits::{bounded, within_limits};

/// A path that selects values, and the value that each of them must have.
#[derive(Clone, Debug)]
pub struct JsonPath {
    text: String,
    path: Arc<serde_json_path::JsonPath>,
}

impl JsonPath {
    /// Reads a path. The form of kubectl, `{.status.phase}`, is read as well.
    ///
    /// # Errors
    /// The syntax error.
    pub fn parse(text: &str) -> Result<Self, String> {
        within_limits(text)?;
        let trimmed = text.trim();
        let standard = match trimmed.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(inner) if inner.starts_with(['.', '[']) => format!("${inner}"),
            _ => trimmed.to_owned(),
        };
        let read = bounded(move || {
            serde_json_path::JsonPath::parse(&standard).map_err(|error| error.to_string().replace('\n', " "))
        });
        match read {
            Ok(Ok(path)) => Ok(Self { text: text.to_owned(), path: Arc::new(path) }),
            Ok(Err(message)) => Err(message),
            Err(exceeded) => Err(exceeded.to_string()),
        }
    }

    /// Compares the selected values with `expected`; without it, a selected value must exist, and be neither null nor
    /// false.
    ///
    /// # Errors
    /// The values that were selected, or the limit that was exceeded: then no value can help.
    pub fn selects(&self, value: &Value, expected: Option<&str>) -> Result<Result<(), String>, String> {
        let (path, value) = (Arc::clone(&self.path), value.clone());
        let selected = bounded(move || path.query(&value).all().into_iter().cloned().collect::<Vec<_>>())
            .map_err(|exceeded| format!("{self}: {exceeded}"))?;
        Ok(self.judged(&selected, expected))
    }

    fn judged(&self, selected: &[Value], expected: Option<&str>) -> Result<(), String> {
        if selected.is_empty() {
            return Err(format!("{self} selects nothing"));
        }
        let fits = |value: &&Value| match expected {
            Some(expected) => text_of(value) == expected,
            None => !matches!(value, Value::Null | Value::Bool(false)),
        };
        match selected.iter().find(|value| !fits(value)) {
            None => Ok(()),
            Some(other) => {
                let other = lab_model::visible(&text_of(other), 100);
                let wanted = expected.map(|expected| format!(" and not {expected}")).unwrap_or_default();
                Err(format!("{self} is {other}{wanted}"))
            }
        }
    }
}

/// The value as kubectl prints it.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn selects(text: &str, expected: Option<&str>) -> Result<(), String> {
        let value = json!({ "status": { "phase": "Running", "ready": 2, "done": false, "list": [1, 1] } });
        JsonPath::parse(text).expect(text).selects(&value, expected).expect("within limits")
    }

    #[test]
    fn every_selected_value_must_be_the_expected_one() {
        assert_eq!(selects("$.status.phase", Some("Running")), Ok(()));
        assert_eq!(selects("{.status.phase}", Some("Running")), Ok(()));
        assert_eq!(selects("$.status.ready", Some("2")), Ok(()));
        assert_eq!(selects("$.status.list[*]", Some("1")), Ok(()));
        assert_eq!(
            selects("$.status.phase", Some("Failed")),
            Err("$.status.phase is Running and not Failed".into())
        );
        assert_eq!(selects("$.status.nothing", Some("x")), Err("$.status.nothing selects nothing".into()));
        assert_eq!(selects("$.status.phase", None), Ok(()));
        assert_eq!(selects("$.status.done", None), Err("$.status.done is false".into()));
    }

    #[test]
    fn a_path_that_cannot_be_read_is_refused() {
        for text in ["", "status", "$.", "$[", "{.status"] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_ends_without_a_panic(text in "\\$?([a-z.@?*:,'\"()\\[\\]0-9 =&|!-]|é){0,40}") {
            if let Ok(path) = JsonPath::parse(&text) {
                let _ = path.selects(&json!({ "a": [1, { "b": null }] }), None);
            }
        }
    }
}
