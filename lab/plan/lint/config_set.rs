//! The config files of one cluster.

use std::{
    io,
    path::{Path, PathBuf},
};

use lab_model::{Diagnostic, Position, Severity, yaml::YamlNode};

use super::schema::Schema;
use crate::user_config::UserConfig;

/// The rule of text that is no YAML.
pub const NOT_YAML: &str = "not-yaml";

/// The files that are looked at together, and what is known beside them.
#[derive(Debug)]
pub struct ConfigSet {
    /// The files.
    pub files: Vec<UserConfig>,
    /// The keys of the Talos version that is meant.
    pub schema: &'static Schema,
    /// What is no YAML.
    pub(super) unreadable: Vec<Diagnostic>,
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

impl ConfigSet {
    /// Takes texts with their names.
    pub fn new(texts: impl IntoIterator<Item = (String, String)>, schema: &'static Schema) -> Self {
        let mut set = Self { files: Vec::new(), schema, unreadable: Vec::new() };
        for (name, text) in texts {
            match UserConfig::parse(name, text) {
                Ok(file) => set.files.push(file),
                Err(error) => {
                    let help = "mend the YAML here, or a little above: quotes, indentation, a doubled key";
                    set.unreadable.push(error.rule(NOT_YAML).help(help));
                }
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
    pub(super) fn machines(&self) -> impl Iterator<Item = (&UserConfig, &YamlNode)> {
        self.files.iter().flat_map(|file| file.machine_configs().map(move |node| (file, node)))
    }

    /// The documents of a kind, each with its file.
    pub(super) fn of_kind<'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a UserConfig, &'a YamlNode)> {
        self.files.iter().flat_map(move |file| file.of_kind(kind).map(move |node| (file, node)))
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

impl UserConfig {
    /// A finding in this file.
    pub(super) fn finding(
        &self,
        severity: Severity,
        rule: &'static str,
        position: Position,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Diagnostic {
        let finding = Diagnostic::at(&position, message).in_file(&self.name);
        finding.severity(severity).rule(rule).help(help)
    }
}
