//! The config files of one cluster.

use std::{
    io,
    path::{Path, PathBuf},
};

use lab_model::{Diagnostic, Position, Severity, yaml::YamlNode};

use super::schema::Schema;
use crate::user_config::UserConfig;

/// The rule for text that is not YAML.
pub const NOT_YAML: &str = "not-yaml";

/// The files of one check, and the Talos version.
#[derive(Debug)]
pub struct ConfigSet {
    pub files: Vec<UserConfig>,
    /// The keys of the target Talos version.
    pub schema: &'static Schema,
    /// Findings for files that are not YAML.
    pub(super) unreadable: Vec<Diagnostic>,
}

/// A file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}: {source}", path.display())]
pub struct ReadError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl ConfigSet {
    /// Creates a set from texts with their names.
    pub fn new(texts: impl IntoIterator<Item = (String, String)>, schema: &'static Schema) -> Self {
        let mut set = Self { files: Vec::new(), schema, unreadable: Vec::new() };
        for (name, text) in texts {
            match UserConfig::parse(name, text) {
                Ok(file) => set.files.push(file),
                Err(error) => {
                    let help =
                        "correct the YAML here or a few lines above: quotes, indentation, a duplicate key";
                    set.unreadable.push(error.rule(NOT_YAML).help(help));
                }
            }
        }
        set
    }

    /// Reads files.
    ///
    /// # Errors
    /// Returns an error for the first unreadable file.
    pub fn read(paths: &[PathBuf], schema: &'static Schema) -> Result<Self, ReadError> {
        let read = |path: &PathBuf| {
            let text = read_text(path).map_err(|source| ReadError { path: path.clone(), source })?;
            Ok((path.display().to_string(), text))
        };
        let texts: Result<Vec<_>, _> = paths.iter().map(read).collect();
        Ok(Self::new(texts?, schema))
    }

    /// Returns the machine configs, each with its file.
    pub(super) fn machines(&self) -> impl Iterator<Item = (&UserConfig, &YamlNode)> {
        self.files.iter().flat_map(|file| file.machine_configs().map(move |node| (file, node)))
    }

    /// Returns the documents of a kind, each with its file.
    pub(super) fn of_kind<'a>(
        &'a self,
        kind: &'a str,
    ) -> impl Iterator<Item = (&'a UserConfig, &'a YamlNode)> {
        self.files.iter().flat_map(move |file| file.of_kind(kind).map(move |node| (file, node)))
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    /// Maximum file size in bytes, above that of any config.
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
    /// Creates a finding in this file.
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
