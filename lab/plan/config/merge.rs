//! Strategic merge with the rules of Talos.
//!
//! Source: `machinery/config/merge` and the `merge` tags and `Merge` methods of the config types
//! (v1.13.9). Maps are merged key by key, scalars are replaced, and lists are appended. A few lists are
//! replaced instead, and a few are merged by a key of their entries. `tests/talos_config.rs` compares the
//! results with the library's patcher.

use serde_json::Value;

/// A location in a config: the document kind (empty for v1alpha1's main document) and the keys from the
/// top. Entries of a list have the location of the list.
type MergeKey = (&'static str, &'static [&'static str]);

/// Values that a patch replaces as a whole (`merge:"replace"` in the types).
const REPLACED: &[MergeKey] = &[
    ("", &["cluster", "network", "podSubnets"]),
    ("", &["cluster", "network", "serviceSubnets"]),
    ("", &["cluster", "apiServer", "auditPolicy"]),
    ("NetworkRuleConfig", &["ingress"]),
    ("NetworkRuleConfig", &["portSelector", "ports"]),
];

/// Lists with entries that are merged by key. The merge key is the first of these keys in the patch's
/// entry.
const KEYED: &[(MergeKey, &[&str])] = &[
    (("", &["machine", "network", "interfaces"]), &["interface", "deviceSelector"]),
    (("", &["machine", "network", "interfaces", "vlans"]), &["vlanId"]),
    (("", &["cluster", "apiServer", "admissionControl"]), &["name"]),
    (("ExtensionServiceConfig", &["configFiles"]), &["mountPath"]),
];

/// Lists with entries that are replaced by key.
const REPLACED_BY_KEY: &[(MergeKey, &str)] = &[(("ImageVerificationConfig", &["rules"]), "image")];

/// Merges `patch` into `base`, at the top of a document.
pub(super) fn merge_document(base: &mut Value, patch: &Value) {
    let kind = base.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    Merge { kind, path: Vec::new() }.merge(base, patch);
}

struct Merge {
    kind: String,
    path: Vec<String>,
}

impl Merge {
    fn merge(&mut self, base: &mut Value, patch: &Value) {
        if is_zero(patch) && !base.is_null() {
            return;
        }
        match (base, patch) {
            (base, patch) if REPLACED.iter().any(|place| self.is_at(place)) => *base = patch.clone(),
            (Value::Object(base), Value::Object(patch)) => {
                // For program arguments, a later list replaces the earlier list.
                let arguments = self.path.last().is_some_and(|key| key == "extraArgs");
                for (key, value) in patch {
                    self.path.push(key.clone());
                    match base.get_mut(key) {
                        Some(existing) if !arguments => self.merge(existing, value),
                        _ => {
                            base.insert(key.clone(), value.clone());
                        }
                    }
                    self.path.pop();
                }
            }
            (Value::Array(base), Value::Array(patch)) => self.merge_lists(base, patch),
            (base, patch) => *base = patch.clone(),
        }
    }

    fn merge_lists(&mut self, base: &mut Vec<Value>, patch: &[Value]) {
        let keys = KEYED.iter().find(|(place, _)| self.is_at(place)).map_or(&[][..], |(_, keys)| keys);
        let replaced = REPLACED_BY_KEY.iter().find(|(place, _)| self.is_at(place)).map(|(_, key)| *key);
        for entry in patch {
            if let Some(twin) = replaced.and_then(|key| twin(base, entry, key)) {
                *twin = entry.clone();
                continue;
            }
            let key = keys.iter().find(|key| entry.get(**key).is_some_and(|value| !is_zero(value)));
            match key.and_then(|key| twin(base, entry, key)) {
                Some(twin) => self.merge(twin, entry),
                None => base.push(entry.clone()),
            }
        }
    }

    fn is_at(&self, (kind, path): &MergeKey) -> bool {
        self.kind == *kind && self.path == *path
    }
}

fn twin<'a>(entries: &'a mut [Value], entry: &Value, key: &str) -> Option<&'a mut Value> {
    entries.iter_mut().find(|existing| existing.get(key) == entry.get(key))
}

/// Returns whether a value is null, an empty text or the number 0. Such values do not override existing
/// values.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
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
    fn the_same_key_in_a_document_of_another_kind_has_no_rule() {
        assert_eq!(
            merged(
                json!({"kind": "X", "configFiles": [{"mountPath": "/a"}]}),
                json!({"configFiles": [{"mountPath": "/a"}]})
            ),
            json!({"kind": "X", "configFiles": [{"mountPath": "/a"}, {"mountPath": "/a"}]}),
        );
    }

    #[test]
    fn zero_values_say_nothing_and_false_does() {
        assert_eq!(
            merged(
                json!({"a": "x", "b": 1, "c": true, "d": [1]}),
                json!({"a": "", "b": 0, "c": false, "d": null})
            ),
            json!({"a": "x", "b": 1, "c": false, "d": [1]}),
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
