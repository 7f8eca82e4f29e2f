//! The file: its name, its text and its documents.

use std::fmt;

use lab_model::{
    Diagnostic, Position,
    yaml::{YamlNode, documents},
};

/// A file of the user: a machine config, several documents, or a patch. Debug output shows its name alone,
/// because the text holds secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct UserConfig {
    /// The file, as the user named it.
    pub name: String,
    /// Its documents, with the position of every key and value.
    pub documents: Vec<YamlNode>,
    text: String,
}

impl fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserConfig({})", self.name)
    }
}

impl UserConfig {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// When it is not YAML: where, and why.
    pub fn parse(name: impl Into<String>, text: impl Into<String>) -> Result<Self, Box<Diagnostic>> {
        let (name, text) = (name.into(), text.into());
        match documents(&text) {
            Ok(documents) => Ok(Self { name, documents, text }),
            Err(error) => Err(Box::new(Diagnostic::at(&error.position, error.message).in_file(name))),
        }
    }

    /// The text, as it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The machine config documents: those without a kind, which hold `machine` and `cluster`.
    pub fn machine_configs(&self) -> impl Iterator<Item = &YamlNode> {
        self.documents.iter().filter(|document| document.kind().is_none())
    }

    /// The first machine config document.
    pub fn main(&self) -> Option<&YamlNode> {
        self.machine_configs().next()
    }

    /// The documents of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a YamlNode> {
        self.documents.iter().filter(move |document| document.kind() == Some(kind))
    }

    /// Where a path of the main document stands, or the nearest key above it.
    pub fn position(&self, path: &[&str]) -> Position {
        let Some(mut node) = self.main() else { return Position::START };
        let mut position = node.position;
        for key in path {
            let Some(entry) = node.entries().iter().find(|entry| entry.key == *key) else { break };
            (position, node) = (entry.position, &entry.node);
        }
        position
    }

    /// Where a value stands, whatever its key; an address may be followed by its prefix length.
    pub fn position_of(&self, text: &str) -> Position {
        let mut found = None;
        for document in &self.documents {
            document.each_scalar(&mut |_, node| {
                let own = node.text().map(|own| own.split('/').next().unwrap_or(own));
                if found.is_none() && own == Some(text) {
                    found = Some(node.position);
                }
            });
        }
        found.unwrap_or(Position::START)
    }
}
