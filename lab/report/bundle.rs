//! The bundle of a failed run: all data for failure analysis, in one directory.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use lab_model::{
    LONGEST_TEXT,
    files::{create_private, create_private_directory, is_plain},
    redact, visible, visible_lines,
};

/// Collected texts, by file name relative to the bundle.
#[derive(Clone, Debug, Default)]
pub struct Bundle {
    files: Vec<(PathBuf, String)>,
    cause: String,
    left_out: Vec<String>,
}

/// The largest text of a bundle, in bytes. The end of a longer text is left out.
const LARGEST: usize = 32 << 20;

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
        Self { cause: cause.into(), ..Self::default() }
    }

    /// Adds a text. Parts of its name may come from a guest: a name that leads out of the bundle is left out, and the
    /// list of files says so.
    pub fn add(&mut self, name: impl Into<PathBuf>, text: impl Into<String>) {
        let (name, mut text) = (name.into(), text.into());
        if !is_plain(&name) {
            self.left_out.push(visible(&name.to_string_lossy(), 200));
            return;
        }
        if text.len() > LARGEST {
            text.truncate(text.floor_char_boundary(LARGEST));
            text.push_str("\n… the rest is left out\n");
        }
        self.files.push((name, text));
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
        let cause = visible_lines(&redact(&self.cause), 40, LONGEST_TEXT);
        let mut listing = format!("{cause}\n\nfiles of this bundle:\n");
        for (name, text) in &self.files {
            let path = partial.join(name);
            if let Some(parent) = path.parent() {
                create_private_directory(parent).map_err(error(parent))?;
            }
            write(&path, &redact(text)).map_err(error(&path))?;
            listing.push_str(&format!("  {}\n", visible(&name.to_string_lossy(), 200)));
        }
        for name in &self.left_out {
            listing
                .push_str(&format!("left out, because the name that a guest gave leads elsewhere: {name}\n"));
        }
        let readme = partial.join("README.txt");
        create_private_directory(&partial).map_err(error(&partial))?;
        write(&readme, &listing).map_err(error(&readme))?;
        // A run of several scenarios may fail more than once; rename replaces only empty directories.
        match fs::remove_dir_all(directory) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(directory)(source)),
            _ => {}
        }
        fs::rename(&partial, directory).map_err(error(directory))
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    create_private(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_guest_leads_out_of_the_bundle() {
        let outer = tempfile::tempdir().expect("tempdir");
        let mut bundle = Bundle::new("cause\x1b[2J");
        for name in
            ["nodes/cp-1/ext-../../../../etc.log", "../outside.log", "/tmp/lab-absolute.log", "a/../b.log"]
        {
            bundle.add(name, "written by a guest");
        }
        bundle.add("nodes/cp-1/ext-fine.log", "fine");
        let path = outer.path().join("run/bundle");
        bundle.write(&path).expect("write");
        let files = walkdir::WalkDir::new(outer.path()).into_iter().flatten();
        let files = files.filter(|entry| entry.file_type().is_file());
        let mut names: Vec<_> = files
            .map(|entry| entry.path().strip_prefix(outer.path()).expect("below").display().to_string())
            .collect();
        names.sort();
        assert_eq!(names, ["run/bundle/README.txt", "run/bundle/nodes/cp-1/ext-fine.log"]);
        assert!(!Path::new("/tmp/lab-absolute.log").exists());
        let readme = fs::read_to_string(path.join("README.txt")).expect("readme");
        assert!(readme.starts_with("cause\\u{1b}[2J\n"), "{readme}");
        assert_eq!(readme.matches("left out, because the name").count(), 4, "{readme}");
    }

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
