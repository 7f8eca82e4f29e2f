//! The valid keys of a machine config, by Talos version.
//!
//! The tables in `schema/` are derived from the config types of Talos's `machinery` library. A test
//! regenerates and compares them. The JSON schema in the library is not sufficient: it lacks deprecated
//! keys that Talos still reads.

use std::{collections::BTreeMap, sync::LazyLock};

use lab_model::{
    Diagnostic,
    words::choice,
    yaml::{YamlEntry, YamlNode, YamlValue},
};
use serde::Deserialize;

use crate::config::TalosContract;

/// The type of the document without a kind.
const MACHINE_CONFIG: &str = "";
/// Maximum depth, above that of any config.
const DEPTH_LIMIT: usize = 12;

/// The keys of one Talos version.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Schema {
    /// The type of each kind of document. The machine config has an empty kind.
    documents: BTreeMap<String, String>,
    /// Keys and their value types, by type.
    types: BTreeMap<String, BTreeMap<String, Holds>>,
}

/// The value type of a key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Holds {
    Any,
    Text,
    Flag,
    Number,
    List(Box<Holds>),
    Map(Box<Holds>),
    Type(String),
}

impl TryFrom<String> for Holds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let inner = |open: char, close: char| {
            text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)).map(str::to_owned)
        };
        Ok(match text.as_str() {
            "any" => Self::Any,
            "text" => Self::Text,
            "flag" => Self::Flag,
            "number" => Self::Number,
            _ => {
                if let Some(item) = inner('[', ']') {
                    Self::List(Box::new(item.try_into()?))
                } else if let Some(item) = inner('{', '}') {
                    Self::Map(Box::new(item.try_into()?))
                } else {
                    Self::Type(text)
                }
            }
        })
    }
}

impl Holds {
    /// Returns the name of the type for messages.
    fn words(&self) -> String {
        match self {
            Self::Any => "anything".into(),
            Self::Text => "a text".into(),
            Self::Flag => "true or false".into(),
            Self::Number => "a whole number".into(),
            Self::List(_) => "a list (`- …` lines or […])".into(),
            Self::Map(_) | Self::Type(_) => "a mapping (`key: value` lines or {…})".into(),
        }
    }
}

static V1_11: LazyLock<Schema> = LazyLock::new(|| table(include_str!("schema/v1.11.yaml")));
static V1_12: LazyLock<Schema> = LazyLock::new(|| table(include_str!("schema/v1.12.yaml")));
static V1_13: LazyLock<Schema> = LazyLock::new(|| table(include_str!("schema/v1.13.yaml")));

fn table(text: &str) -> Schema {
    Schema::parse(text).expect("the built-in table of keys is well-formed; a test reads it")
}

impl Schema {
    /// Returns all non-empty document kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.documents.keys().map(String::as_str).filter(|kind| !kind.is_empty())
    }

    /// Returns whether a kind of document exists.
    pub(super) fn has(&self, kind: &str) -> bool {
        self.documents.contains_key(kind)
    }

    /// Parses a table.
    ///
    /// # Errors
    /// Returns an error if the text is not a table.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// Returns the keys of a Talos version.
    pub fn of(contract: TalosContract) -> &'static Self {
        match contract {
            TalosContract::V1_11 => &V1_11,
            TalosContract::V1_12 => &V1_12,
            TalosContract::V1_13 => &V1_13,
        }
    }

    /// Returns all deviations of a document from the table.
    pub(super) fn check(&self, document: &YamlNode) -> Vec<Diagnostic> {
        let kind = document.kind().unwrap_or(MACHINE_CONFIG);
        let mut found = Vec::new();
        match self.documents.get(kind) {
            // A patch may delete what this release does not have.
            None if document.get(&["$patch"]).is_some() => {}
            Some(name) => self.look_at(document, &Holds::Type(name.clone()), "", &mut found),
            None => {
                let kinds: Vec<_> = self.kinds().collect();
                let position = document.get(&["kind"]).map_or(document.position, |kind| kind.position);
                let message = format!("there is no document of the kind {kind}");
                let help = choice(kind, &kinds, "kinds").unwrap_or_default();
                found.push(Diagnostic::at(&position, message).rule("unknown-kind").help(help));
            }
        }
        found
    }

    fn look_at(&self, node: &YamlNode, holds: &Holds, path: &str, found: &mut Vec<Diagnostic>) {
        if node.is_nothing() {
            return;
        }
        match (holds, &node.value) {
            (Holds::Any, _) => {}
            (Holds::Type(name), _) if !self.types.contains_key(name) => {}
            (Holds::List(item), YamlValue::List(items)) => {
                for (index, node) in items.iter().enumerate() {
                    self.look_at(node, item, &format!("{path}[{index}]"), found);
                }
            }
            (Holds::Map(item), YamlValue::Map(entries)) => {
                for YamlEntry { key, node, .. } in entries {
                    self.look_at(node, item, &joined(path, key), found);
                }
            }
            (Holds::Type(name), YamlValue::Map(entries)) => {
                let Some(keys) = self.types.get(name) else { return };
                for YamlEntry { key, position, node } in entries {
                    match keys.get(key) {
                        Some(holds) => self.look_at(node, holds, &joined(path, key), found),
                        // Directives of a strategic merge patch are not keys.
                        None if key.starts_with('$') => {}
                        None => {
                            let message = match is_word(key) {
                                true => format!("there is no key {}", joined(path, key)),
                                false if path.is_empty() => "this is not a key".to_owned(),
                                false => format!("this is not a key of {path}"),
                            };
                            let unknown = Diagnostic::at(position, message).rule("unknown-key");
                            found.push(unknown.help(self.help(key, keys)));
                        }
                    }
                }
            }
            (Holds::Text, YamlValue::Scalar { .. }) => {}
            (Holds::Flag, YamlValue::Scalar { text, plain: true, .. }) if is_flag(text) => {}
            // The Go parser also accepts 0x1f, 0o17 and 1_000 (yaml.v3, resolve.go).
            (Holds::Number, YamlValue::Scalar { text, plain: true, .. }) if is_number(text) => {}
            // `key: $patch: delete` removes a list or a map.
            (_, YamlValue::Map(entries)) if entries.iter().any(|entry| entry.key == "$patch") => {}
            (_, value) => {
                let what = match value {
                    YamlValue::Scalar { .. } => "a single value",
                    YamlValue::List(_) => "a list",
                    YamlValue::Map(_) => "a mapping",
                };
                let message = format!("{path} is {what} and has the wrong type");
                let wrong = Diagnostic::at(&node.position, message).rule("wrong-type");
                found.push(wrong.help(format!("write {}", holds.words())));
            }
        }
    }

    fn help(&self, key: &str, keys: &BTreeMap<String, Holds>) -> String {
        let names: Vec<_> = keys.keys().collect();
        let near = choice(key, &names, "keys here").unwrap_or_default();
        match self.documents.get(MACHINE_CONFIG).and_then(|root| self.path_of(key, root, "", 0)) {
            Some(path) => format!("its place is {path}; {near}"),
            None => near,
        }
    }

    /// Returns the path where a key with this name is valid.
    fn path_of(&self, key: &str, name: &str, path: &str, depth: usize) -> Option<String> {
        let keys = self.types.get(name).filter(|_| depth < DEPTH_LIMIT)?;
        if keys.contains_key(key) {
            return Some(joined(path, key));
        }
        let inner = keys.iter().filter_map(|(inner, holds)| {
            let (name, path) = match holds {
                Holds::Type(name) => (name, joined(path, inner)),
                Holds::List(item) => match item.as_ref() {
                    Holds::Type(name) => (name, format!("{}[]", joined(path, inner))),
                    _ => return None,
                },
                _ => return None,
            };
            self.path_of(key, name, &path, depth + 1)
        });
        // The highest place is the likeliest.
        inner.min_by_key(|path| path.matches('.').count())
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether a text can be a key. Other text is not shown, because it can be a secret that is not where it belongs.
fn is_word(key: &str) -> bool {
    !key.is_empty() && key.len() <= 63 && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

fn is_flag(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n")
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']).replace('_', "");
    let in_base = |prefix: &str, base| {
        digits.strip_prefix(prefix).is_some_and(|digits| i128::from_str_radix(digits, base).is_ok())
    };
    // A fraction of zero and an exponent make a whole number, too.
    digits.parse::<f64>().is_ok_and(|number| number.is_finite() && number.fract() == 0.0)
        || in_base("0x", 16)
        || in_base("0o", 8)
        || in_base("0b", 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab_model::{Position, yaml::documents};

    fn found(text: &str) -> Vec<Diagnostic> {
        let documents = documents(text).expect("YAML");
        documents.iter().flat_map(|document| Schema::of(TalosContract::V1_13).check(document)).collect()
    }

    /// Returns the position, the rule with the message, and the help of the only finding.
    fn only(text: &str) -> (Option<Position>, String, String) {
        let found = found(text);
        let [one] = found.as_slice() else { panic!("{found:?}") };
        let rule = one.rule.as_deref().unwrap_or("no rule");
        (one.position, format!("{rule}: {}", one.message), one.help.clone().unwrap_or_default())
    }

    #[test]
    fn the_tables_are_well_formed_and_closed() {
        for contract in TalosContract::ALL {
            let schema = Schema::of(contract);
            assert!(schema.documents.len() > 15);
            for name in schema.documents.values() {
                assert!(schema.types.contains_key(name), "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_key_is_told_with_its_path_and_the_nearest_one() {
        let (position, message, help) = only("machine:\n  kubelet:\n    registerWithFQDNs: true\n");
        assert_eq!(position, Some(Position { line: 3, column: 5 }));
        assert_eq!(message, "unknown-key: there is no key machine.kubelet.registerWithFQDNs");
        assert!(help.contains("did you mean \"registerWithFQDN\"?"), "{help}");
    }

    #[test]
    fn a_key_in_the_wrong_place_is_told_its_own() {
        let (_, message, help) = only("cluster:\n  certSANs: [a]\n");
        assert!(message.starts_with("unknown-key: ") && help.contains("certSANs"), "{message} {help}");
        let (_, _, help) = only("machine:\n  network:\n    vip: { ip: 10.5.0.5 }\n");
        assert!(help.starts_with("its place is machine.network.interfaces[].vip; "), "{help}");
    }

    #[test]
    fn a_list_in_place_of_a_mapping_is_told() {
        let (_, message, _) = only("machine:\n  features: [rbac]\n");
        assert_eq!(message, "wrong-type: machine.features is a list and has the wrong type");
    }

    #[test]
    fn what_go_reads_as_a_number_or_a_text_is_one() {
        let mtu =
            |mtu: &str| found(&format!("machine:\n  network:\n    interfaces:\n      - mtu: {mtu}\n")).len();
        for number in ["0x5dc", "1500.0", "1.5e3", "1_500"] {
            assert_eq!(mtu(number), 0, "{number}");
        }
        for text in ["1500.5", "inf", "\"1500\""] {
            assert_eq!(mtu(text), 1, "{text}");
        }
        assert_eq!(found("cluster:\n  clusterName: 12\n"), []);
        assert_eq!(found("machine:\n  install:\n    wipe: \"false\"\n").len(), 1);
    }

    #[test]
    fn patches_may_delete() {
        assert_eq!(found("machine:\n  certSANs:\n    $patch: delete\n"), []);
        assert_eq!(found("apiVersion: v1alpha1\nkind: OfTheFuture\n$patch: delete\n"), []);
    }
}
