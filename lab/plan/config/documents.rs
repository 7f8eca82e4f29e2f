//! A machine config as a list of documents, and the merge of patches.

use serde::Deserialize;
use serde_json::Value;

use super::{deletion, merge::merge_document, patch_documents::LabPatch, written};
use crate::user_config::UserConfig;

/// A machine config: one v1alpha1 document and any number of other documents.
#[derive(Clone, PartialEq, Eq)]
pub struct MachineConfig {
    documents: Vec<Value>,
    /// The user's file, if any. The lab changes as few of its lines as possible.
    written: Option<UserConfig>,
}

impl std::fmt::Debug for MachineConfig {
    /// Shows only the document names, because the content holds the cluster's secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.documents.iter().map(|document| Identity::of(document).to_string()))
            .finish()
    }
}

/// An item that the lab removes before it merges a patch, if the item exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cleared {
    /// A key of the main document.
    Key(&'static [&'static str]),
    /// All documents of a kind.
    Documents(&'static str),
}

/// The reason that a config or a patch is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A document is not YAML.
    #[error("document {document} is not YAML: {source}")]
    Yaml {
        /// Document number in the text, from 1.
        document: usize,
        /// Position and cause.
        source: serde_yaml::Error,
    },
    /// A document is not a map.
    #[error(
        "document {document} is not a map of keys; a machine config document starts with keys such as machine:"
    )]
    NotAMap {
        /// Document number in the text, from 1.
        document: usize,
    },
    /// A document has no type information.
    #[error(
        "document {document} has {present}: but no {absent}:; documents other than the main one need both"
    )]
    Unidentified {
        /// Document number in the text, from 1.
        document: usize,
        /// The key that is present.
        present: &'static str,
        /// The missing key.
        absent: &'static str,
    },
    /// Two documents have the same identity.
    #[error("document {document} is another {identity}; a config has one of each kind and name")]
    Duplicate {
        /// Document number in the text, from 1.
        document: usize,
        /// The identity of both documents.
        identity: String,
    },
    /// A deletion is impossible.
    #[error("document {document} of the patch: {reason}")]
    Deletion {
        /// Document number in the patch, from 1.
        document: usize,
        reason: String,
    },
    /// A JSON patch cannot be applied.
    #[error("the JSON patch cannot be applied: {0}")]
    JsonPatch(String),
    /// The config cannot be written as YAML.
    #[error("write the config as YAML: {0}")]
    Write(serde_yaml::Error),
}

impl MachineConfig {
    /// Creates a config from documents.
    pub(super) fn new(documents: Vec<Value>) -> Self {
        Self { documents, written: None }
    }

    /// Parses one or more YAML documents. Skips empty documents and drops comments.
    ///
    /// # Errors
    /// Errors name the document, line and column.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigError> {
        let mut documents: Vec<Value> = Vec::new();
        for (index, value) in parse(text)?.into_iter().enumerate() {
            let document = index + 1;
            match &value {
                Value::Null => continue,
                Value::Object(_) => {}
                _ => return Err(ConfigError::NotAMap { document }),
            }
            match (value.get("apiVersion").is_some(), value.get("kind").is_some()) {
                (true, false) => {
                    return Err(ConfigError::Unidentified {
                        document,
                        present: "apiVersion",
                        absent: "kind",
                    });
                }
                (false, true) => {
                    return Err(ConfigError::Unidentified {
                        document,
                        present: "kind",
                        absent: "apiVersion",
                    });
                }
                _ => {}
            }
            let identity = Identity::of(&value);
            if documents.iter().any(|earlier| Identity::of(earlier) == identity) {
                return Err(ConfigError::Duplicate { document, identity: identity.to_string() });
            }
            documents.push(value);
        }
        Ok(Self { documents, written: None })
    }

    /// Like [`Self::from_yaml`], but keeps the text of the file. Unchanged text reaches the node byte for
    /// byte.
    ///
    /// # Errors
    /// Errors name the document, line and column.
    pub fn as_written(text: &str) -> Result<Self, ConfigError> {
        Ok(Self { written: UserConfig::parse("machine config", text).ok(), ..Self::from_yaml(text)? })
    }

    /// Returns the documents as YAML text, ready to send to a node.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        let kept = self.written.as_ref().and_then(|file| written::rewritten(file, &self.documents));
        if let Some(text) = kept {
            return Ok(text);
        }
        let texts: Result<Vec<_>, _> = self.documents.iter().map(serde_yaml::to_string).collect();
        Ok(texts.map_err(ConfigError::Write)?.join("---\n"))
    }

    /// Returns the documents as values.
    pub fn documents(&self) -> &[Value] {
        &self.documents
    }

    /// Returns the document with `machine` and `cluster`.
    pub fn main(&self) -> Option<&Value> {
        self.documents.iter().find(|document| Identity::of(document).kind.is_empty())
    }

    /// Returns the first document of a kind.
    pub fn of_kind(&self, kind: &str) -> Option<&Value> {
        self.documents.iter().find(|document| Identity::of(document).kind == kind)
    }

    /// Returns the text at a path of the main document. Returns `None` if it is empty.
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        let value = path.iter().try_fold(self.main()?, |place, key| place.get(*key))?;
        value.as_str().filter(|text| !text.is_empty())
    }

    /// Returns the host name of the node in the config.
    pub fn hostname(&self) -> Option<&str> {
        let own = self.of_kind("HostnameConfig").and_then(|document| document.get("hostname")?.as_str());
        own.filter(|name| !name.is_empty()).or_else(|| self.text_at(&["machine", "network", "hostname"]))
    }

    /// Applies patches to the config, in order. The patch format is that of `talosctl --config-patch`:
    ///
    /// - one or more documents. Each is merged into the document with the same apiVersion, kind and name,
    ///   or added. `$patch: delete` removes a key, a list entry or a whole document;
    /// - a list of RFC 6902 operations, for configs with a single document only, as in Talos.
    ///
    /// # Errors
    /// Returns an error if a patch is not YAML or its target does not exist. The node validates the
    /// result.
    pub fn patch<'a>(mut self, patches: impl IntoIterator<Item = &'a str>) -> Result<Self, ConfigError> {
        for patch in patches {
            match parse(patch)?.as_slice() {
                [operations @ Value::Array(_)] => self.apply_operations(operations)?,
                _ => self.apply_documents(Self::from_yaml(patch)?)?,
            }
        }
        Ok(self)
    }

    /// Replaces every text value for which `other` returns a replacement.
    pub(super) fn replace_texts<'a>(&mut self, other: impl Fn(&str) -> Option<&'a str>) {
        self.documents.iter_mut().for_each(|document| replace_texts(document, &other));
    }

    /// Merges a lab patch into the config.
    pub fn merge(&mut self, patch: &LabPatch) {
        for cleared in patch.clears {
            match cleared {
                Cleared::Documents(kind) => {
                    self.documents.retain(|document| document.get("kind").is_none_or(|own| own != kind));
                }
                Cleared::Key(path) => {
                    let main = self.documents.iter_mut().find(|own| Identity::of(own).kind.is_empty());
                    if let (Some(main), Some((last, parents))) = (main, path.split_last()) {
                        let parent = parents.iter().try_fold(main, |place, key| place.get_mut(*key));
                        if let Some(map) = parent.and_then(Value::as_object_mut) {
                            map.shift_remove(*last);
                        }
                    }
                }
            }
        }
        for document in &patch.documents {
            let identity = Identity::of(document);
            match self.documents.iter_mut().find(|own| Identity::of(own) == identity) {
                Some(own) => merge_document(own, document),
                None => self.documents.push(document.clone()),
            }
        }
    }

    fn apply_documents(&mut self, patch: Self) -> Result<(), ConfigError> {
        for (index, document) in patch.documents.into_iter().enumerate() {
            let refused = |reason| ConfigError::Deletion { document: index + 1, reason };
            let identity = Identity::of(&document).to_string();
            let at = self.documents.iter().position(|own| Identity::of(own).to_string() == identity);
            let taken = deletion::take(document).map_err(refused)?;
            for deletion in &taken.deletions {
                let at = at.ok_or_else(|| refused(format!("there is no {identity} to delete from")))?;
                if deletion.path.is_empty() {
                    if identity == MAIN {
                        return Err(refused("the main document cannot be deleted".into()));
                    }
                    self.documents.remove(at);
                } else {
                    deletion.apply(&mut self.documents[at]).map_err(refused)?;
                }
            }
            match (at, taken.rest) {
                (_, None) => {}
                (Some(at), Some(rest)) => merge_document(&mut self.documents[at], &rest),
                (None, Some(rest)) => self.documents.push(rest),
            }
        }
        Ok(())
    }

    fn apply_operations(&mut self, operations: &Value) -> Result<(), ConfigError> {
        let [document] = self.documents.as_mut_slice() else {
            return Err(ConfigError::JsonPatch(format!(
                "the config has {} documents and Talos applies JSON patches to configs of one only; write it as a map, a strategic merge patch",
                self.documents.len()
            )));
        };
        let operations: json_patch::Patch = serde_json::from_value(operations.clone())
            .map_err(|source| ConfigError::JsonPatch(source.to_string()))?;
        json_patch::patch(document, &operations).map_err(|source| ConfigError::JsonPatch(source.to_string()))
    }
}

pub(super) fn parse(text: &str) -> Result<Vec<Value>, ConfigError> {
    serde_yaml::Deserializer::from_str(text)
        .enumerate()
        .map(|(index, document)| {
            Value::deserialize(document).map_err(|source| ConfigError::Yaml { document: index + 1, source })
        })
        .collect()
}

/// The name of the v1alpha1 main document in messages. The document has neither apiVersion nor kind.
const MAIN: &str = "main document";

/// The identity of a document.
#[derive(PartialEq, Eq)]
pub(super) struct Identity<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
}

impl<'a> Identity<'a> {
    pub(super) fn of(document: &'a Value) -> Self {
        let text = |key| document.get(key).and_then(Value::as_str).unwrap_or_default();
        Self { api_version: text("apiVersion"), kind: text("kind"), name: text("name") }
    }
}

impl std::fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.kind, self.name) {
            ("", _) => f.write_str(MAIN),
            (kind, "") => write!(f, "{}/{kind}", self.api_version),
            (kind, name) => write!(f, "{}/{kind} {name}", self.api_version),
        }
    }
}

fn replace_texts<'a>(value: &mut Value, other: &impl Fn(&str) -> Option<&'a str>) {
    match value {
        Value::String(text) => {
            if let Some(other) = other(text) {
                *text = other.to_owned();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| replace_texts(value, other)),
        Value::Object(map) => map.values_mut().for_each(|value| replace_texts(value, other)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "version: v1alpha1\nmachine: {token: secret, sysctls: {a: '1'}}\n---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: one\n";

    fn config() -> MachineConfig {
        MachineConfig::from_yaml(CONFIG).expect("config")
    }

    fn refusal(patch: &str) -> String {
        config().patch([patch]).expect_err("refused").to_string()
    }

    #[test]
    fn patches_reach_the_document_they_mean() {
        let patched = config()
            .patch([
                "machine: {sysctls: {b: '2'}}\n---\napiVersion: v1alpha1\nkind: HostnameConfig\nhostname: other\n",
                "apiVersion: v1alpha1\nkind: ExtensionServiceConfig\nname: tailscale\n",
            ])
            .expect("patch");
        assert_eq!(patched.documents().len(), 3);
        assert_eq!(patched.documents()[0]["machine"]["sysctls"]["b"], "2");
        assert_eq!(patched.documents()[1]["hostname"], "other");
        assert_eq!(patched.documents()[2]["name"], "tailscale");
    }

    #[test]
    fn a_document_can_be_deleted_but_not_the_main_one() {
        let patch = "apiVersion: v1alpha1\nkind: HostnameConfig\n$patch: delete\n";
        assert_eq!(config().patch([patch]).expect("patch").documents().len(), 1);
        assert!(refusal("$patch: delete\n").contains("main document"), "{}", refusal("$patch: delete\n"));
        assert!(refusal("apiVersion: v1alpha1\nkind: X\n$patch: delete\n").contains("v1alpha1/X"));
    }

    #[test]
    fn operations_act_on_a_config_of_one_document() {
        let one =
            "- {op: add, path: /machine/sysctls/b, value: '2'}\n- {op: remove, path: /machine/sysctls/a}\n";
        let single = MachineConfig::from_yaml("machine: {sysctls: {a: '1'}}").expect("config");
        let patched = single.patch([one]).expect("patch");
        assert_eq!(patched.documents()[0]["machine"]["sysctls"], serde_json::json!({ "b": "2" }));
        assert!(refusal(one).contains("2 documents"));
    }

    #[test]
    fn what_is_no_config_is_refused_by_document() {
        let refusal = |text| MachineConfig::from_yaml(text).expect_err("refused").to_string();
        assert!(refusal("a: 1\n---\n- x\n").starts_with("document 2 is not a map"));
        assert!(refusal("kind: HostnameConfig\n").contains("no apiVersion"));
        assert!(refusal("a: 1\n---\nb: 1\n").contains("another main document"));
        assert!(refusal("a: 1\nb: [\n").contains("line 3"), "{}", refusal("a: 1\nb: [\n"));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert_eq!(format!("{:?}", config()), r#"["main document", "v1alpha1/HostnameConfig"]"#);
    }
}
