//! The config files of one cluster.

use std::{
    io,
    path::{Path, PathBuf},
};

use lab_model::{Diagnostic, Position, Severity, files::read_text_bounded, yaml::YamlNode};

use crate::user_config::UserConfig;

/// The files of one check.
#[derive(Debug, Default)]
pub struct ConfigSet {
    /// The files that the lab can read as YAML.
    pub files: Vec<UserConfig>,
    /// The other files.
    pub(super) unreadable: Vec<Unreadable>,
    /// Configs of the user that the patches among the files are applied to. Empty: generated configs.
    pub bases: Vec<String>,
}

/// A file that the lab cannot read as YAML.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub name: String,
    pub text: String,
    /// The syntax error.
    pub error: Diagnostic,
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
    pub fn new(texts: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut set = Self::default();
        for (name, text) in texts {
            match UserConfig::parse(&name, &text) {
                Ok(file) => set.files.push(file),
                Err(error) => set.unreadable.push(Unreadable { name, text, error: *error }),
            }
        }
        set
    }

    /// Reads files.
    ///
    /// # Errors
    /// Returns an error for the first unreadable file.
    pub fn read(paths: &[PathBuf]) -> Result<Self, ReadError> {
        let texts: Result<Vec<_>, _> =
            paths.iter().map(|path| Ok((path.display().to_string(), read(path)?))).collect();
        Ok(Self::new(texts?))
    }

    /// Lays the patches among the files over these configs.
    ///
    /// # Errors
    /// Returns an error for the first unreadable file.
    pub fn with_bases(mut self, paths: &[PathBuf]) -> Result<Self, ReadError> {
        self.bases = paths.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        Ok(self)
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

fn read(path: &Path) -> Result<String, ReadError> {
    read_text(path).map_err(|source| ReadError { path: path.to_owned(), source })
}

fn read_text(path: &Path) -> io::Result<String> {
    /// Maximum file size in bytes, above that of any config.
    const LIMIT: u64 = 16 << 20;
    read_text_bounded(path, LIMIT)
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
