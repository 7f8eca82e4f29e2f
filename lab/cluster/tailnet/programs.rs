//! The tailnet programs for this host: headscale, tailscaled, tailscale.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_model::files::FileLock;
use lab_programs::{Build, BuildError};

use super::program_sources::unpacked;

/// Each program with its Go module in `images/` and its package. The `go.mod` files pin the versions. Two
/// modules are necessary, because headscale does not compile with the client's version of tailscale.com.
const PACKAGES: [(&str, &str, &str); 3] = [
    (HEADSCALE, "tailnet", "github.com/juanfont/headscale/cmd/headscale"),
    (TAILSCALED, "tailscale", "tailscale.com/cmd/tailscaled"),
    (TAILSCALE, "tailscale", "tailscale.com/cmd/tailscale"),
];
const HEADSCALE: &str = "headscale";
const TAILSCALED: &str = "tailscaled";
const TAILSCALE: &str = "tailscale";

/// A file in a program's module with Tailscale's build tags, one per line. The tags exclude features that
/// contact Tailscale's servers on the internet or the router of the host's network. No flag or variable
/// disables captive portal detection.
const TAGS_FILE: &str = "client-tags";
/// Excludes C libraries for users and names, as in all Go programs of the lab.
const TAGS: &str = "osusergo,netgo";

/// The location of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    directory: PathBuf,
}

/// The error of a program that is missing or cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// A program does not exist.
    #[error("there is no {program} in {}; build it with: make images", directory.display())]
    Missing {
        /// The missing program.
        program: &'static str,
        /// The searched directory.
        directory: PathBuf,
    },
    /// The build could not be started, or a file operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The compiler failed.
    #[error("go build of {program} in {} ended with {status}; its last lines:\n{output}", module.display())]
    Build {
        /// The program to build.
        program: &'static str,
        module: PathBuf,
        /// The exit status.
        status: String,
        /// The end of the compiler output.
        output: String,
    },
}

impl Programs {
    /// The directory of the programs, relative to the directory of built images.
    pub const DIRECTORY: &str = "tailnet";

    /// Uses the programs in `directory`.
    ///
    /// # Errors
    /// When a program does not exist.
    pub fn at(directory: &Path) -> Result<Self, ProgramsError> {
        // Absolute, because child processes may have other working directories.
        let directory =
            std::path::absolute(directory).map_err(file("resolve the directory of programs", directory))?;
        match PACKAGES.iter().find(|(program, ..)| !directory.join(program).is_file()) {
            Some((program, ..)) => Err(ProgramsError::Missing { program, directory }),
            None => Ok(Self { directory }),
        }
    }

    /// Uses the programs in `directory`. Builds missing programs from the Go modules in `images`. A build
    /// blocks for minutes. A lock prevents concurrent builds.
    ///
    /// # Errors
    /// When Go is not installed or a module does not build.
    pub fn at_or_built(directory: &Path, images: &Path) -> Result<Self, ProgramsError> {
        if let Ok(programs) = Self::at(directory) {
            return Ok(programs);
        }
        fs::create_dir_all(directory).map_err(file("create", directory))?;
        let _lock = FileLock::acquire(&directory.join(".building")).map_err(file("lock", directory))?;
        for (program, module, package) in PACKAGES {
            let target = directory.join(program);
            // Another process may have built the program while this process waited for the lock.
            if !target.is_file() {
                build(&images.join(module), program, package, &target)?;
            }
        }
        Self::at(directory)
    }

    /// Uses the programs in `directory`. Builds missing programs from the Go modules that the lab contains,
    /// and unpacks them into `cache`. Blocks like [`Programs::at_or_built`].
    ///
    /// # Errors
    /// When Go is not installed, the modules cannot be unpacked, or a module does not build.
    pub fn at_or_built_here(directory: &Path, cache: &Path) -> Result<Self, ProgramsError> {
        if let Ok(programs) = Self::at(directory) {
            return Ok(programs);
        }
        let sources =
            unpacked(cache).map_err(file("unpack the sources of the tailnet's programs below", cache))?;
        Self::at_or_built(directory, &sources)
    }

    /// The control server.
    pub fn headscale(&self) -> PathBuf {
        self.directory.join(HEADSCALE)
    }

    /// The client's daemon.
    pub fn tailscaled(&self) -> PathBuf {
        self.directory.join(TAILSCALED)
    }

    /// The client's command.
    pub fn tailscale(&self) -> PathBuf {
        self.directory.join(TAILSCALE)
    }
}

fn build(module: &Path, program: &'static str, package: &str, target: &Path) -> Result<(), ProgramsError> {
    let tags = tags(module).map_err(file("read the build tags of", module))?;
    Build { module, options: &["-tags", &tags], package }.write(target).map_err(|error| match error {
        BuildError::Start(source) => file("run go (install it with: make setup) in", module)(source),
        BuildError::File { action, path, source } => ProgramsError::File { action, path, source },
        BuildError::Failed { status, output } => {
            ProgramsError::Build { program, module: module.to_owned(), status, output }
        }
    })
}

/// Returns the build tags of a module. The file with additional tags is optional.
fn tags(module: &Path) -> io::Result<String> {
    let list = match fs::read_to_string(module.join(TAGS_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        list => list?,
    };
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(std::iter::once(TAGS).chain(lines).collect::<Vec<_>>().join(","))
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ProgramsError + use<'a> {
    move |source| ProgramsError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_tags_come_from_the_module() {
        let module = tempfile::tempdir().unwrap();
        assert_eq!(tags(module.path()).unwrap(), "osusergo,netgo");
        fs::write(module.path().join(TAGS_FILE), "# why\nts_omit_a\n\nts_omit_b\n").unwrap();
        assert_eq!(tags(module.path()).unwrap(), "osusergo,netgo,ts_omit_a,ts_omit_b");
    }

    #[test]
    fn a_missing_program_is_named_with_the_way_to_get_it() {
        let directory = tempfile::tempdir().unwrap();
        for program in [HEADSCALE, TAILSCALED] {
            fs::write(directory.path().join(program), "").unwrap();
        }
        let error = Programs::at(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("there is no tailscale in ") && error.ends_with("make images"), "{error}");
        fs::write(directory.path().join(TAILSCALE), "").unwrap();
        assert_eq!(Programs::at(directory.path()).unwrap().headscale(), directory.path().join(HEADSCALE));
    }
}
