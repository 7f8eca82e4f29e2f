//! The build of one program.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Number of compiler output lines in an error.
const LINES: usize = 15;

/// A program of a Go module.
#[derive(Clone, Copy, Debug)]
pub struct Build<'a> {
    /// The directory of the module.
    pub module: &'a Path,
    /// Options of `go build` besides those of all programs, e.g. build tags.
    pub options: &'a [&'a str],
    /// The package, in the module or in a module that it requires.
    pub package: &'a str,
}

/// A program was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `go` could not be started.
    #[error("cannot run go")]
    Start(#[source] io::Error),
    /// The program could not be written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The compiler failed.
    #[error("go build ended with {status}; its last lines:\n{output}")]
    Failed {
        /// The exit status.
        status: String,
        /// The end of the compiler output.
        output: String,
    },
}

impl Build<'_> {
    /// Builds the program for this host as the file `target`. Blocks for minutes. An interrupted build leaves
    /// no incomplete program.
    ///
    /// # Errors
    /// If Go is not installed, the program does not build, or `target` cannot be written.
    pub fn write(&self, target: &Path) -> Result<(), BuildError> {
        let file = |action, path: &Path| {
            let path = path.to_owned();
            move |source| BuildError::File { action, path, source }
        };
        let partial = target.with_extension("partial");
        let partial = std::path::absolute(&partial).map_err(file("resolve", &partial))?;
        let output = Command::new("go")
            // The linker leaves debug data out anyway; without them the compiler takes an eighth less time.
            .args(["build", "-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false", "-ldflags=-s -w"])
            .args(self.options)
            .arg("-o")
            .arg(&partial)
            .arg(self.package)
            .current_dir(self.module)
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .env_remove("GOOS")
            .env_remove("GOARCH")
            .stdin(Stdio::null())
            .output()
            .map_err(BuildError::Start)?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<_> = text.lines().collect();
            return Err(BuildError::Failed {
                status: output.status.to_string(),
                output: lines[lines.len().saturating_sub(LINES)..].join("\n"),
            });
        }
        fs::rename(&partial, target).map_err(file("put in place", target))
    }
}
