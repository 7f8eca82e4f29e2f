//! Strategic-merge patches as Talos applies them.
//!
//! Source: `machinery/config/merge` and the `merge` tags of the v1alpha1 types. Maps are merged
//! key by key, scalars replaced, lists appended; a few lists are replaced instead, a few are
//! merged by the key of their entries, and `$patch: delete` removes what it stands in.

use serde_json::Value;

/// Lists that a patch replaces (`merge:"replace"` in the types), by path.
const REPLACED: &[&[&str]] = &[
    &["cluster", "network", "podSubnets"],
    &["cluster", "network", "serviceSubnets"],
    &["cluster", "apiServer", "auditPolicy", "rules"],
];

/// Lists whose entries are merged when they agree in one of the given keys, by path.
const KEYED: &[(&[&str], &[&str])] = &[
    (&["machine", "network", "interfaces"], &["interface", "deviceSelector"]),
    (&["cluster", "apiServer", "admissionControl"], &["name"]),
];

/// Lays `patch` over `base`, at the top of a document.
pub(super) fn merge_document(base: &mut Value, patch: &Value) {
    merge(base, patch, &mut Vec::new());
}

fn merge(base: &mut Value, patch: &Value, path: &mut Vec<String>) {
    match (&mut *base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if key == "$patch" {
                    continue;
                }
                if is_delete(value) {
                    base.shift_remove(key);
                    continue;
                }
                path.push(key.clone());
                match base.get_mut(key) {
                    Some(existing) => merge(existing, value, path),
                    None => {
                        base.insert(key.clone(), without_directives(value));
                    }
                }
                path.pop();
            }
        }
        (Value::Array(base), Value::Array(patch)) if !is(path, REPLACED) => {
            let keys = KEYED.iter().find(|(at, _)| path == at).map(|(_, keys)| *keys).unwrap_or_default();
            for entry in patch {
                let twin = base.iter_mut().find(|existing| same_entry(existing, entry, keys));
                match twin {
                    Some(existing) => merge(existing, entry, path),
                    None => base.push(without_directives(entry)),
                }
            }
        }
        (base, patch) => *base = without_directives(patch),
    }
}

fn is(path: &[String], known: &[&[&str]]) -> bool {
    known.iter().any(|at| path == *at)
}

fn same_entry(existing: &Value, entry: &Value, keys: &[&str]) -> bool {
    keys.iter().any(|key| entry.get(key).is_some_and(|value| existing.get(key) == Some(value)))
}

fn is_delete(value: &Value) -> bool {
    value.get("$patch").and_then(Value::as_str) == Some("delete")
}

/// A value as it enters a document: directives that had nothing to act on are dropped.
fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, value)| *key != "$patch" && !is_delete(value))
            .map(|(key, value)| (key.clone(), without_directives(value)))
            .collect(),
        Value::Array(entries) => entries.iter().map(without_directives).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(mut base: Value, patch: Value) -> Value {
        merge_document(&mut base, &patch);
        base
    }

    #[test]
    fn maps_merge_scalars_replace_lists_append() {
        assert_eq!(
            merged(
                json!({"machine": {"a": 1, "list": [1], "keep": true}}),
                json!({"machine": {"a": 2, "list": [2], "new": {"x": 1}}}),
            ),
            json!({"machine": {"a": 2, "list": [1, 2], "keep": true, "new": {"x": 1}}}),
        );
    }

    #[test]
    fn subnets_are_replaced() {
        assert_eq!(
            merged(
                json!({"cluster": {"network": {"podSubnets": ["10.244.0.0/16"]}}}),
                json!({"cluster": {"network": {"podSubnets": ["10.1.0.0/16"]}}}),
            ),
            json!({"cluster": {"network": {"podSubnets": ["10.1.0.0/16"]}}}),
        );
    }

    #[test]
    fn interfaces_merge_by_name() {
        assert_eq!(
            merged(
                json!({"machine": {"network": {"interfaces": [{"interface": "eth0", "dhcp": true}]}}}),
                json!({"machine": {"network": {"interfaces": [{"interface": "eth0", "mtu": 9000}, {"interface": "eth1"}]}}}),
            ),
            json!({"machine": {"network": {"interfaces": [{"interface": "eth0", "dhcp": true, "mtu": 9000}, {"interface": "eth1"}]}}}),
        );
    }

    #[test]
    fn delete_removes_a_branch_and_leaves_no_trace_of_itself() {
        assert_eq!(
            merged(
                json!({"machine": {"a": {"b": 1}, "c": 2}}),
                json!({"machine": {"a": {"$patch": "delete"}, "gone": {"$patch": "delete"}}}),
            ),
            json!({"machine": {"c": 2}}),
        );
    }

    proptest! {
        #[test]
        fn an_empty_patch_changes_nothing(keys in proptest::collection::vec("[a-z]{1,4}", 0..5)) {
            let base: Value = keys.iter().map(|key| (key.clone(), json!({"list": [1], "x": key}))).collect();
            prop_assert_eq!(merged(base.clone(), json!({})), base);
        }
    }
}
