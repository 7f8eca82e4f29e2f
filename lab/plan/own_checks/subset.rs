//! Partial objects: each given field must have the given value, and others do not matter.

use serde_json::Value;

/// Returns the first difference, or `None` if `seen` has everything that `expected` names. Lists must have the same
/// length, and their elements are compared in order (kyverno-json, `pkg/core/assertion`).
pub fn mismatch(expected: &Value, seen: &Value) -> Option<String> {
    compare("", expected, seen)
}

fn compare(path: &str, expected: &Value, seen: &Value) -> Option<String> {
    let place = if path.is_empty() { "the object" } else { path };
    match (expected, seen) {
        (Value::Object(expected), Value::Object(seen)) => expected.iter().find_map(|(key, expected)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match seen.get(key) {
                Some(seen) => compare(&path, expected, seen),
                None if expected.is_null() => None,
                None => Some(format!("{path} is missing")),
            }
        }),
        (Value::Array(expected), Value::Array(seen)) if expected.len() != seen.len() => {
            Some(format!("{place} has {} elements and not {}", seen.len(), expected.len()))
        }
        (Value::Array(expected), Value::Array(seen)) => {
            let mut pairs = expected.iter().zip(seen).enumerate();
            pairs.find_map(|(at, (expected, seen))| compare(&format!("{path}[{at}]"), expected, seen))
        }
        (Value::Number(expected), Value::Number(seen)) if expected.as_f64() == seen.as_f64() => None,
        _ if expected == seen => None,
        _ => Some(format!("{place} is {} and not {}", short(seen), short(expected))),
    }
}

/// A value on one bounded line.
fn short(value: &Value) -> String {
    lab_model::visible(&value.to_string(), 80)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_are_not_named_do_not_matter() {
        let seen = json!({ "kind": "Pod", "spec": { "a": 1, "b": [1, { "c": 2, "d": 3 }] } });
        assert_eq!(mismatch(&json!({ "kind": "Pod", "spec": { "b": [1.0, { "c": 2 }] } }), &seen), None);
        assert_eq!(mismatch(&json!({ "spec": { "none": null } }), &seen), None);
    }

    #[test]
    fn the_first_difference_is_named_with_its_path() {
        let seen = json!({ "spec": { "a": 1, "b": [1, { "c": 2 }] } });
        for (expected, told) in [
            (json!({ "spec": { "a": 2 } }), "spec.a is 1 and not 2"),
            (json!({ "spec": { "b": [1] } }), "spec.b has 2 elements and not 1"),
            (json!({ "spec": { "b": [1, { "c": 3 }] } }), "spec.b[1].c is 2 and not 3"),
            (json!({ "spec": { "x": 1 } }), "spec.x is missing"),
            (json!({ "spec": { "a": { "y": 1 } } }), "spec.a is 1 and not {\"y\":1}"),
            (json!(1), "the object is {\"spec\":{\"a\":1,\"b\":[1,{\"c\":2}]}} and not 1"),
        ] {
            assert_eq!(mismatch(&expected, &seen).as_deref(), Some(told));
        }
    }
}
