//! Support for `$patch: delete` in patches.
//!
//! Source: `machinery/config/configloader/internal/decoder` (`delete.go`, `selector.go`). Deletions apply
//! first. Then the rest of the patch document is merged.

use serde_json::Value;

/// A patch document, split into deletions and additions.
pub(super) struct Taken {
    pub(super) deletions: Vec<Deletion>,
    /// The document to merge afterwards. `None` if the patch document contains only deletions.
    pub(super) rest: Option<Value>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deletion {
    /// Keys from the top of the document. Empty for the whole document.
    pub(super) path: Vec<String>,
    /// The first entry with this key and text in the list at `path`.
    entry: Option<(String, String)>,
}

/// Splits a patch document into deletions and additions.
pub(super) fn take(mut document: Value) -> Result<Taken, String> {
    let mut deletions = Vec::new();
    let gone = collect(&mut document, &mut Vec::new(), false, &mut deletions)?;
    let identity_only = document
        .as_object()
        .is_some_and(|map| map.keys().all(|key| ["version", "apiVersion", "kind", "name"].contains(&&**key)));
    let rest = if gone || (identity_only && !deletions.is_empty()) { None } else { Some(document) };
    Ok(Taken { deletions, rest })
}

/// Returns whether nothing is left of `value`.
fn collect(
    value: &mut Value,
    path: &mut Vec<String>,
    in_list: bool,
    found: &mut Vec<Deletion>,
) -> Result<bool, String> {
    match value {
        Value::Object(map) => {
            if directive(map)? {
                if in_list {
                    return Err(format!("cannot delete inside an entry of the list {}", path.join(".")));
                }
                found.push(Deletion { path: path.clone(), entry: None });
                return Ok(true);
            }
            let before = map.len();
            let mut emptied = Vec::new();
            for (key, child) in map.iter_mut() {
                path.push(key.clone());
                if collect(child, path, in_list, found)? {
                    emptied.push(key.clone());
                }
                path.pop();
            }
            for key in &emptied {
                map.shift_remove(key);
            }
            Ok(before > 0 && map.is_empty())
        }
        Value::Array(entries) => {
            let before = entries.len();
            let mut kept = Vec::new();
            for mut entry in std::mem::take(entries) {
                match entry.as_object().map(directive).transpose()? {
                    Some(true) if in_list => {
                        return Err(format!("cannot delete inside an entry of the list {}", path.join(".")));
                    }
                    Some(true) => {
                        found.push(Deletion { path: path.clone(), entry: Some(selector(&entry, path)?) });
                    }
                    _ => {
                        collect(&mut entry, path, true, found)?;
                        kept.push(entry);
                    }
                }
            }
            *entries = kept;
            Ok(before > 0 && entries.is_empty())
        }
        _ => Ok(false),
    }
}

/// Returns whether a map contains `$patch: delete`.
fn directive(map: &serde_json::Map<String, Value>) -> Result<bool, String> {
    match map.get("$patch") {
        None => Ok(false),
        Some(word) if word == "delete" => Ok(true),
        Some(word) => Err(format!("$patch: {word} is not known; the one directive is $patch: delete")),
    }
}

/// Returns the first key of a list entry, which identifies the entry.
fn selector(entry: &Value, path: &[String]) -> Result<(String, String), String> {
    let first = entry.as_object().into_iter().flatten().find(|(key, _)| *key != "$patch");
    match first {
        Some((key, Value::String(text))) => Ok((key.clone(), text.clone())),
        _ => Err(format!(
            "which entry of {} to delete? put a key with a text, such as its name, before $patch: delete",
            path.join(".")
        )),
    }
}

impl Deletion {
    /// Applies the deletion to `document`. A missing key counts as deleted.
    pub(super) fn apply(&self, document: &mut Value) -> Result<(), String> {
        let at = self.path.join(".");
        let missing = || format!("there is no {at} to delete");
        let (last, parents) = self.path.split_last().ok_or("a whole document is not deleted by path")?;
        let mut place = document;
        for key in parents {
            place = place.get_mut(key).ok_or_else(missing)?;
        }
        match &self.entry {
            None => {
                place.as_object_mut().ok_or_else(missing)?.shift_remove(last);
            }
            Some((key, text)) => {
                let entries = place.get_mut(last).and_then(Value::as_array_mut).ok_or_else(missing)?;
                let index = entries
                    .iter()
                    .position(|entry| entry.get(key).and_then(Value::as_str) == Some(text))
                    .ok_or_else(|| format!("there is no entry of {at} with {key}: {text} to delete"))?;
                entries.remove(index);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(mut base: Value, patch: Value) -> Result<(Value, Option<Value>), String> {
        let taken = take(patch)?;
        for deletion in &taken.deletions {
            deletion.apply(&mut base)?;
        }
        Ok((base, taken.rest))
    }

    #[test]
    fn a_branch_goes_and_the_rest_of_the_patch_stays() {
        assert_eq!(
            applied(
                json!({"machine": {"a": {"b": 1}, "c": 2}}),
                json!({"machine": {"a": {"$patch": "delete"}, "d": 3}}),
            ),
            Ok((json!({"machine": {"c": 2}}), Some(json!({"machine": {"d": 3}})))),
        );
    }

    #[test]
    fn an_entry_goes_by_its_first_key() {
        assert_eq!(
            applied(
                json!({"list": [{"name": "a"}, {"name": "b", "x": 1}]}),
                json!({"list": [{"name": "b", "$patch": "delete"}]}),
            ),
            Ok((json!({"list": [{"name": "a"}]}), None)),
        );
    }

    #[test]
    fn what_cannot_be_deleted_is_named() {
        let refused = |patch| applied(json!({"list": [{"name": "a"}]}), patch).expect_err("refused");
        assert!(refused(json!({"no": {"x": {"$patch": "delete"}}})).contains("no.x"));
        assert!(refused(json!({"list": [{"name": "z", "$patch": "delete"}]})).contains("name: z"));
        assert!(refused(json!({"list": [{"x": {"$patch": "delete"}}]})).contains("inside an entry"));
        assert!(refused(json!({"list": [{"$patch": "delete"}]})).contains("which entry"));
        assert!(refused(json!({"a": {"$patch": "replace"}})).contains("replace"));
    }
}
