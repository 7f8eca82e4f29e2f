//! The file: its name, text and documents.

use std::fmt;

use lab_model::{
    Diagnostic, Position,
    yaml::{YamlNode, documents},
};

/// A user's file: a machine config, several documents, or a patch. Debug output contains only the name,
/// because the text contains secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct UserConfig {
    /// The file name as the user specified it.
    pub name: String,
    /// The documents, with the position of every key and value.
    pub documents: Vec<YamlNode>,
    text: String,
}

impl fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserConfig({})", self.name)
    }
}

impl UserConfig {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// Returns an error with position and cause if the text is not YAML.
    pub fn parse(name: impl Into<String>, text: impl Into<String>) -> Result<Self, Box<Diagnostic>> {
        let (name, text) = (name.into(), text.into());
        match documents(&text) {
            Ok(documents) => Ok(Self { name, documents, text }),
            Err(error) => Err(Box::new(Diagnostic::at(&error.position, error.message).in_file(name))),
        }
    }

    /// Returns the original text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the machine config documents. They have no kind, and contain `machine` and `cluster`.
    pub fn machine_configs(&self) -> impl Iterator<Item = &YamlNode> {
        self.documents.iter().filter(|document| document.kind().is_none())
    }

    /// Returns the first machine config document.
    pub fn main(&self) -> Option<&YamlNode> {
        self.machine_configs().next()
    }

    /// Returns the documents of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a YamlNode> {
        self.documents.iter().filter(move |document| document.kind() == Some(kind))
    }

    /// Returns the position of a path in the main document, or of the nearest existing parent key.
    pub fn position(&self, path: &[&str]) -> Position {
        let Some(mut node) = self.main() else { return Position::START };
        let mut position = node.position;
        for key in path {
            let Some(entry) = node.entries().iter().find(|entry| entry.key == *key) else { break };
            (position, node) = (entry.position, &entry.node);
        }
        position
    }

    /// Returns the position of a value under any key. An address may have a prefix length.
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
