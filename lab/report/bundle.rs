//! The bundle of a failed run: all data for failure analysis, in one directory.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_model::redact;

/// Collected texts, by file name relative to the bundle.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    files: Vec<(PathBuf, String)>,
    cause: String,
}

/// A file of the bundle cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("write {} of the bundle: {source}", path.display())]
pub struct BundleError {
    path: PathBuf,
    source: io::Error,
}

impl Bundle {
    /// Creates an empty bundle for a run that failed because of `cause` (the node, the step and the
    /// reason).
    pub fn new(cause: impl Into<String>) -> Self {
        Self { files: Vec::new(), cause: cause.into() }
    }

    /// Adds a text.
    pub fn add(&mut self, name: impl Into<PathBuf>, text: impl Into<String>) {
        self.files.push((name.into(), text.into()));
    }

    /// Writes all texts, redacted, to `directory`, and `README.txt` with the cause in its first line.
    /// The directory appears atomically, by rename, and replaces an earlier bundle.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), BundleError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| BundleError { path, source }
        };
        let partial = directory.with_extension("partial");
        match fs::remove_dir_all(&partial) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(&partial)(source)),
            _ => {}
        }
        let mut listing = format!("{}\n\nfiles of this bundle:\n", redact(&self.cause));
        for (name, text) in &self.files {
            let path = partial.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(error(parent))?;
            }
            fs::write(&path, redact(text)).map_err(error(&path))?;
            listing.push_str(&format!("  {}\n", name.display()));
        }
        let readme = partial.join("README.txt");
        fs::create_dir_all(&partial).map_err(error(&partial))?;
        fs::write(&readme, listing).map_err(error(&readme))?;
        // A run of several scenarios may fail more than once; rename replaces only empty directories.
        match fs::remove_dir_all(directory) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(directory)(source)),
            _ => {}
        }
        fs::rename(&partial, directory).map_err(error(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_why_and_no_secret_is_written() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut bundle = Bundle::new("node worker-1 failed at step \"boot\": kernel panic");
        bundle.add("nodes/worker-1/console.log", "TS_AUTHKEY=tskey-auth-123 seen\n");
        let path = directory.path().join("bundle");
        bundle.write(&path).expect("write");
        let readme = fs::read_to_string(path.join("README.txt")).expect("readme");
        assert!(readme.starts_with("node worker-1 failed at step \"boot\": kernel panic\n"), "{readme}");
        let console = fs::read_to_string(path.join("nodes/worker-1/console.log")).expect("console");
        assert!(!console.contains("tskey"), "{console}");
    }
}
