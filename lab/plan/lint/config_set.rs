//! The config files of one cluster.

use std::{
    io,
    path::{Path, PathBuf},
};

use lab_model::Severity;

use super::{
    finding::Finding,
    schema::Schema,
    tree::{self, Node, Place},
};

/// The rule of text that is no YAML.
pub const NOT_YAML: &str = "not-yaml";

/// The files that are looked at together, and what is known beside them.
#[derive(Debug)]
pub struct ConfigSet {
    /// The files.
    pub files: Vec<ConfigFile>,
    /// The keys of the Talos version that is meant.
    pub schema: &'static Schema,
    /// What is no YAML.
    pub(super) unreadable: Vec<Finding>,
}

/// One file: a config, several documents, or a patch.
#[derive(Debug)]
pub struct ConfigFile {
    /// As it was named.
    pub name: String,
    /// Its documents.
    pub documents: Vec<Node>,
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}: {source}", path.display())]
pub struct ReadError {
    /// Which.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What kind of machine a config is for (`machine.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineType {
    /// `controlplane`, or its old name `init`.
    ControlPlane,
    /// `worker`, or its old name `join`.
    Worker,
}

impl ConfigSet {
    /// Takes texts with their names.
    pub fn new(texts: impl IntoIterator<Item = (String, String)>, schema: &'static Schema) -> Self {
        let mut set = Self { files: Vec::new(), schema, unreadable: Vec::new() };
        for (name, text) in texts {
            match tree::documents(&text) {
                Ok(documents) => set.files.push(ConfigFile { name, documents }),
                Err(error) => set.unreadable.push(Finding {
                    file: name,
                    place: error.place,
                    severity: Severity::Error,
                    rule: NOT_YAML,
                    message: error.message,
                    help: "mend the YAML here, or a little above: quotes, indentation, a doubled key".into(),
                }),
            }
        }
        set
    }

    /// Reads files.
    ///
    /// # Errors
    /// For the first that cannot be read.
    pub fn read(paths: &[PathBuf], schema: &'static Schema) -> Result<Self, ReadError> {
        let read = |path: &PathBuf| {
            let text = read_text(path).map_err(|source| ReadError { path: path.clone(), source })?;
            Ok((path.display().to_string(), text))
        };
        let texts: Result<Vec<_>, _> = paths.iter().map(read).collect();
        Ok(Self::new(texts?, schema))
    }

    /// The machine configs, each with its file.
    pub(super) fn machines(&self) -> impl Iterator<Item = (&ConfigFile, &Node)> {
        self.files.iter().flat_map(|file| {
            file.documents.iter().filter(|document| is_machine_config(document)).map(move |node| (file, node))
        })
    }

    /// The documents of a kind, each with its file.
    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a ConfigFile, &'a Node)> {
        self.files.iter().flat_map(move |file| {
            let of_kind = move |document: &&Node| document.kind() == Some(kind);
            file.documents.iter().filter(of_kind).map(move |node| (file, node))
        })
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    /// More than any config has, in bytes.
    const LIMIT: u64 = 16 << 20;
    if std::fs::metadata(path)?.len() > LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {LIMIT} bytes; no config has so many"),
        ));
    }
    std::fs::read_to_string(path)
}

/// Whether a document is the one without a kind, which holds `machine` and `cluster`.
pub fn is_machine_config(document: &Node) -> bool {
    document.kind().is_none()
}

/// What a machine config is for, as Talos reads it (machinery, config/machine/type.go); `None` in a
/// patch that does not say.
pub fn machine_type(config: &Node) -> Option<MachineType> {
    match config.text_at(&["machine", "type"])? {
        "controlplane" | "init" => Some(MachineType::ControlPlane),
        "worker" | "join" => Some(MachineType::Worker),
        _ => None,
    }
}

impl ConfigFile {
    /// A finding in this file.
    pub(super) fn finding(
        &self,
        severity: Severity,
        rule: &'static str,
        place: Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Finding {
        Finding { file: self.name.clone(), place, severity, rule, message: message.into(), help: help.into() }
    }
}
