//! The text of a workspace.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Why a workspace could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {message}")]
    Manifest { path: String, message: String },
    #[error("{path}:{line}: {message}")]
    Rust { path: String, line: usize, message: String },
    #[error("{path}:{line}: module {name} has no file")]
    NoFile { path: String, line: usize, name: String },
}

/// Rust files and manifests by their paths from the root of the workspace.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<String, String>);

impl Sources {
    /// The root manifest and what lies in the folders of its crates.
    pub fn below(root: &Path) -> Result<Self, ReadError> {
        let mut sources = Self::default();
        sources.read(root, Path::new("Cargo.toml"))?;
        for folder in ["lab", "tools"] {
            for entry in walkdir::WalkDir::new(root.join(folder)).sort_by_file_name() {
                let entry = entry
                    .map_err(|error| ReadError::Read { path: root.join(folder), source: error.into() })?;
                let path = entry.path();
                if path.extension().is_some_and(|end| end == "rs") || path.ends_with("Cargo.toml") {
                    sources.read(root, path.strip_prefix(root).unwrap_or(path))?;
                }
            }
        }
        Ok(sources)
    }

    fn read(&mut self, root: &Path, path: &Path) -> Result<(), ReadError> {
        let whole = root.join(path);
        let text = fs::read_to_string(&whole).map_err(|source| ReadError::Read { path: whole, source })?;
        self.0.insert(path.to_string_lossy().into_owned(), text);
        Ok(())
    }

    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    pub(crate) fn manifest(&self, path: &str) -> Result<toml::Table, ReadError> {
        let wrong = |message: String| ReadError::Manifest { path: path.to_owned(), message };
        let text = self.get(path).ok_or_else(|| wrong("no such file".into()))?;
        text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))
    }
}

impl<P: Into<String>, T: Into<String>> FromIterator<(P, T)> for Sources {
    fn from_iter<I: IntoIterator<Item = (P, T)>>(files: I) -> Self {
        Self(files.into_iter().map(|(path, text)| (path.into(), text.into())).collect())
    }
}
