//! A value of a YAML file with the line on which it stands.

use lab_model::yaml::{YamlNode, documents};
use serde_json::Value;

use super::{fields::Fields, read::Problem};

/// A value. Its node has the lines, and its JSON value the types.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    node: &'a YamlNode,
    pub(super) value: &'a Value,
}

/// The documents of a file, twice.
pub(super) struct Tree {
    nodes: Vec<YamlNode>,
    values: Vec<Value>,
}

impl Tree {
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        // Messages quote nothing of the file, which can contain secrets.
        let wrong = |line: usize| Problem { line, message: "it is not valid YAML".to_owned() };
        let nodes = documents(text).map_err(|error| wrong(error.position.line))?;
        let values: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
            wrong(error.location().and_then(|place| usize::try_from(place.line()).ok()).unwrap_or(1))
        })?;
        let values: Vec<_> = values.into_iter().filter(|value| !value.is_null()).collect();
        if nodes.len() != values.len() {
            return Err(wrong(1));
        }
        Ok(Self { nodes, values })
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = At<'_>> {
        self.nodes.iter().zip(&self.values).map(|(node, value)| At { node, value })
    }
}

impl<'a> At<'a> {
    pub(super) fn line(&self) -> usize {
        self.node.position.line
    }

    pub(super) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { line: self.line(), message: message.into() }
    }

    /// The value of a key; null counts as missing.
    pub(super) fn get(&self, key: &str) -> Option<At<'a>> {
        let node = self.node.get(&[key])?;
        Some(At { node, value: self.value.get(key)? })
    }

    pub(super) fn items(&self) -> impl Iterator<Item = At<'a>> + use<'a> {
        let values = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        self.node.items().iter().zip(values).map(|(node, value)| At { node, value })
    }

    /// Refuses a value that is no mapping, or has a field that the lab does not read.
    pub(super) fn only(&self, fields: &Fields) -> Result<(), Problem> {
        if !self.value.is_object() {
            return Err(self.problem(format!("{} must be a mapping", fields.of)));
        }
        for entry in self.node.entries() {
            let key = entry.key.as_str();
            if fields.read.contains(&key) {
                continue;
            }
            let known = fields.refused.iter().find(|name| **name == key);
            let message = match known {
                Some(name) => format!("`{name}` of {} is not supported", fields.of),
                None => format!("{} has a field that Chainsaw does not have", fields.of),
            };
            let read = fields.read.join(", ");
            return Err(Problem {
                line: entry.position.line,
                message: format!("{message} (supported: {read})"),
            });
        }
        Ok(())
    }

    pub(super) fn required(&self, key: &str) -> Result<At<'a>, Problem> {
        self.get(key).ok_or_else(|| self.problem(format!("`{key}` is missing")))
    }

    pub(super) fn text(&self) -> Result<String, Problem> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(self.value.to_string()),
            _ => Err(self.problem("this must be a text")),
        }
    }

    pub(super) fn text_at(&self, key: &str) -> Result<Option<String>, Problem> {
        self.get(key).map(|at| at.text()).transpose()
    }

    /// Refuses JMESPath: `(…)` as a key or a value, iterators and bindings (kyverno-json, "Assertion trees").
    pub(super) fn without_expressions(&self) -> Result<(), Problem> {
        if let Value::String(text) = self.value
            && is_expression(text)
        {
            return Err(self.problem("JMESPath expressions, `(…)`, are not supported"));
        }
        for entry in self.node.entries() {
            let key = entry.key.as_str();
            if is_expression(key) || key.starts_with(['~', '\\', '$']) || key.contains("->") {
                return Err(Problem {
                    line: entry.position.line,
                    message: "JMESPath expressions, `(…)`, and modifiers of keys are not supported"
                        .to_owned(),
                });
            }
            if let Some(value) = self.value.get(key) {
                At { node: &entry.node, value }.without_expressions()?;
            }
        }
        self.items().try_for_each(|item| item.without_expressions())
    }
}

/// Whether Chainsaw evaluates the text.
fn is_expression(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('(') && text.ends_with(')')
}
