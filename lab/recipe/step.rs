//! Build steps. A step runs only if its key has changed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use lab_oci::images::LayoutError;
use sha2::{Digest as _, Sha256};

/// The reason that an image build fails.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// A file operation on the recipe or its outputs failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// The attempted operation.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A line of a list in `images/rootfs` is invalid.
    #[error("{}:{line}: {problem}", path.display())]
    List {
        /// The list file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        problem: String,
    },
    /// The list of dependency edits, or one of its entries, is invalid.
    #[error("{}: {problem}", path.display())]
    Edits {
        /// The list file.
        path: PathBuf,
        /// The problem, with line and column if the file itself is malformed.
        problem: String,
    },
    /// A host program is missing.
    #[error("run {program}: {source}; install what the build needs with: make setup")]
    Tool {
        /// The name of the program.
        program: String,
        source: io::Error,
    },
    /// A host program failed.
    #[error("{command} ended with {status}; its last lines:\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// The exit status.
        status: String,
        /// The end of the program's output.
        output: String,
    },
    /// The packages do not provide a required item.
    #[error("{0}")]
    Missing(String),
}

impl From<LayoutError> for RecipeError {
    fn from(error: LayoutError) -> Self {
        match error {
            LayoutError::File { action, path, source } => Self::File { action, path, source },
            error @ LayoutError::Index { .. } => Self::Missing(error.to_string()),
        }
    }
}

/// For `map_err`: adds the action and the file to an I/O error.
pub(super) fn file<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> RecipeError + use<'a> {
    move |source| RecipeError::File { action, path: path.to_owned(), source }
}

/// A digest of all inputs of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// Returns the first digits, which distinguish outputs of one kind.
    pub(super) fn short(&self) -> &str {
        &self.0[..12]
    }

    /// Starts the key of the step `name`. Increment `revision` if a code change affects the output of the
    /// step.
    pub(super) fn of(name: &str, revision: u32) -> KeyBuilder {
        let mut hasher = Sha256::new();
        hasher.update(format!("{name}\0{revision}\0"));
        KeyBuilder { hasher }
    }
}

/// Collects the inputs of a [`Key`].
pub(super) struct KeyBuilder {
    hasher: Sha256,
}

impl KeyBuilder {
    /// Adds text, such as flags or versions.
    pub(super) fn text(mut self, text: &str) -> Self {
        self.hasher.update((text.len() as u64).to_le_bytes());
        self.hasher.update(text);
        self
    }

    /// Adds the key of a step that this step depends on.
    pub(super) fn after(self, key: &Key) -> Self {
        self.text(&key.0)
    }

    /// Adds the content of a file, or of all files below a directory with their relative names.
    pub(super) fn tree(mut self, root: &Path) -> Result<Self, RecipeError> {
        for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(root).to_owned();
                RecipeError::File { action: "read", path, source: error.into() }
            })?;
            if entry.file_type().is_file() {
                let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
                let content = fs::read(entry.path()).map_err(file("read", entry.path()))?;
                self = self.text(&relative.to_string_lossy());
                self.hasher.update((content.len() as u64).to_le_bytes());
                self.hasher.update(content);
            }
        }
        Ok(self)
    }

    /// Returns the key.
    pub(super) fn done(self) -> Key {
        Key(hex::encode(self.hasher.finalize()))
    }
}

/// The output directory of the steps.
pub(super) struct Workshop {
    directory: PathBuf,
    say: Box<dyn Fn(&str)>,
}

impl Workshop {
    pub(super) fn new(directory: &Path, say: Box<dyn Fn(&str)>) -> Result<Self, RecipeError> {
        fs::create_dir_all(directory).map_err(file("create", directory))?;
        let workshop = Self { directory: directory.to_owned(), say };
        // Removes partial outputs of an interrupted build.
        for entry in fs::read_dir(directory).map_err(file("read", directory))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".partial-") {
                remove(&entry.path())?;
            }
        }
        Ok(workshop)
    }

    /// Returns the output of step `name`. If there is no output with this key, calls `make` with the
    /// output path.
    pub(super) fn step(
        &self,
        name: &str,
        key: &Key,
        make: impl FnOnce(&Path) -> Result<(), RecipeError>,
    ) -> Result<PathBuf, RecipeError> {
        let output = self.directory.join(name);
        let stamp = self.directory.join(format!("{name}.key"));
        if output.exists() && fs::read_to_string(&stamp).is_ok_and(|text| text == key.0) {
            (self.say)(&format!("{name:<22} up to date"));
            return Ok(output);
        }
        (self.say)(&format!("{name:<22} building"));
        let started = Instant::now();
        let partial = self.directory.join(format!(".partial-{name}"));
        remove(&partial)?;
        make(&partial)?;
        remove(&stamp)?;
        remove(&output)?;
        fs::rename(&partial, &output).map_err(file("create", &output))?;
        fs::write(&stamp, &key.0).map_err(file("write", &stamp))?;
        let size = size(&output) as f64 / f64::from(1 << 20);
        (self.say)(&format!("{name:<22} {size:.1} MiB in {:.1} s", started.elapsed().as_secs_f64()));
        Ok(output)
    }
}

/// Returns the total size in bytes of all files below `path`.
pub(super) fn size(path: &Path) -> u64 {
    walkdir::WalkDir::new(path)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Removes a file, or a directory with its content. A missing path is not an error.
pub(super) fn remove(path: &Path) -> Result<(), RecipeError> {
    let gone = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    gone.map_err(file("remove", path))
}

/// Runs a host program until it exits. Shows its output only on failure.
pub(super) fn run(command: &mut Command) -> Result<String, RecipeError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|source| RecipeError::Tool { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    Err(RecipeError::Failed {
        command: program,
        status: output.status.to_string(),
        output: lines[lines.len().saturating_sub(25)..].join("\n"),
    })
}

/// Pauses before the second and the third attempt of a program that downloads.
const PAUSES: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(15)];

/// What programs say of a connection that did not work, and that works again later: Go's resolver, dialler, TLS and
/// HTTP client, and the status codes of proxies.
const CONNECTION: [&str; 11] = [
    "i/o timeout",
    "connection reset",
    "connection refused",
    "no such host",
    "TLS handshake",
    "unexpected EOF",
    "network is unreachable",
    "429 Too Many",
    "502 Bad",
    "503 Service",
    "504 Gateway",
];

/// Runs a host program that downloads. A lost connection does not end the build: the program runs again, and goes on from
/// what it has in its cache.
pub(super) fn run_with_downloads(command: &mut Command) -> Result<String, RecipeError> {
    again_after(&PAUSES, || run(command))
}

fn again_after<T>(
    pauses: &[Duration],
    mut attempt: impl FnMut() -> Result<T, RecipeError>,
) -> Result<T, RecipeError> {
    for pause in pauses {
        match attempt() {
            Err(RecipeError::Failed { output, .. })
                if CONNECTION.iter().any(|said| output.contains(said)) =>
            {
                std::thread::sleep(*pause);
            }
            result => return result,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn workshop(directory: &Path) -> Workshop {
        Workshop::new(directory, Box::new(|_| {})).expect("workshop")
    }

    #[test]
    fn a_step_is_made_once_per_key() {
        let directory = tempfile::tempdir().expect("tempdir");
        let made = Cell::new(0);
        for revision in [1, 1, 2, 2] {
            workshop(directory.path())
                .step("thing", &Key::of("thing", revision).done(), |path| {
                    made.set(made.get() + 1);
                    fs::write(path, "x").map_err(file("write", path))
                })
                .expect("step");
        }
        assert_eq!(made.get(), 2);
    }

    #[test]
    fn a_failed_step_keeps_the_old_output_and_is_tried_again() {
        let directory = tempfile::tempdir().expect("tempdir");
        let key = |revision| Key::of("thing", revision).done();
        let write = |path: &Path| fs::write(path, "old").map_err(file("write", path));
        let output = workshop(directory.path()).step("thing", &key(1), write).expect("first");
        let failed = workshop(directory.path()).step("thing", &key(2), |path| {
            fs::write(path, "half").map_err(file("write", path))?;
            Err(RecipeError::Missing("on purpose".into()))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&output).expect("kept"), "old");
        let again = workshop(directory.path()).step("thing", &key(2), |path| {
            assert!(!path.exists(), "a half-made output is cleared");
            fs::write(path, "new").map_err(file("write", path))
        });
        assert_eq!(fs::read_to_string(again.expect("again")).expect("new"), "new");
    }

    #[test]
    fn a_lost_connection_is_tried_again_and_another_failure_is_not() {
        let attempts = |said: &str, succeeds_at: u32| {
            let count = Cell::new(0);
            let result = again_after(&[Duration::ZERO; 2], || {
                count.set(count.get() + 1);
                if count.get() == succeeds_at {
                    return Ok(());
                }
                Err(RecipeError::Failed { command: "go".into(), status: "1".into(), output: said.into() })
            });
            (result.is_ok(), count.get())
        };
        let lost = "go: golang.org/x/net@v0.1.0: read tcp 10.0.0.2:4: connection reset by peer";
        assert_eq!(attempts(lost, 3), (true, 3));
        assert_eq!(attempts(lost, 4), (false, 3));
        assert_eq!(attempts("main.go:3:1: syntax error", 2), (false, 1));
    }

    #[test]
    fn keys_see_names_and_contents() {
        let directory = tempfile::tempdir().expect("tempdir");
        let key = || Key::of("s", 1).tree(directory.path()).expect("tree").done();
        fs::write(directory.path().join("a"), "1").expect("write");
        let first = key();
        assert_eq!(first, key());
        fs::write(directory.path().join("a"), "2").expect("write");
        let second = key();
        fs::rename(directory.path().join("a"), directory.path().join("b")).expect("rename");
        assert!(first != second && second != key());
    }
}
