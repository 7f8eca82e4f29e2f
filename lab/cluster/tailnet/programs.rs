//! The tailnet programs for this host: headscale, tailscaled, tailscale.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_model::{Digest, files::FileLock};
use lab_programs::{Build, BuildError};

use super::program_sources::{SOURCES, unpacked};

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
/// The file beside the programs with the digest of the sources that they were built from. It is written last.
const SOURCES_FILE: &str = "sources";

/// What to do about programs that are missing or of another version.
const REMEDY: &str = "build the programs with `lab image programs tailnet`, which needs Go, or use a release archive of the \
                      lab, which contains them";

/// The location of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    directory: PathBuf,
}

/// The error of a program that is missing or cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// A program does not exist.
    #[error("there is no {program} in {}; {REMEDY}", directory.display())]
    Missing {
        /// The missing program.
        program: &'static str,
        /// The searched directory.
        directory: PathBuf,
    },
    /// The programs were built from other sources, e.g. with other build tags.
    #[error("the programs in {} were built from other sources; {REMEDY}", directory.display())]
    Outdated {
        /// The searched directory.
        directory: PathBuf,
    },
    /// There is no Go toolchain.
    #[error(
        "{} has no programs of the tailnet that belong to this lab, and Go, which builds them, is not installed; install Go \
         (`make setup` in a checkout of the lab), or use a release archive of the lab, which contains them",
        directory.display()
    )]
    NoGo {
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
    /// When a program does not exist, or was built from other sources than the lab contains.
    pub fn at(directory: &Path) -> Result<Self, ProgramsError> {
        Self::of(directory, &SOURCES.digest())
    }

    fn of(directory: &Path, sources: &Digest) -> Result<Self, ProgramsError> {
        // Absolute, because child processes may have other working directories.
        let directory =
            std::path::absolute(directory).map_err(file("resolve the directory of programs", directory))?;
        if let Some((program, ..)) = PACKAGES.iter().find(|(program, ..)| !directory.join(program).is_file())
        {
            return Err(ProgramsError::Missing { program, directory });
        }
        let path = directory.join(SOURCES_FILE);
        match fs::read_to_string(&path) {
            Ok(text) if text == sources.to_string() => Ok(Self { directory }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("read", &path)(error)),
            _ => Err(ProgramsError::Outdated { directory }),
        }
    }

    /// Uses the programs in `directory`. Builds them from the Go modules in `images` if one is missing or was
    /// built from other sources. A build blocks for minutes. A lock prevents concurrent builds.
    ///
    /// # Errors
    /// When Go is not installed or a module does not build.
    pub fn at_or_built(directory: &Path, images: &Path) -> Result<Self, ProgramsError> {
        let sources = SOURCES
            .digest_below(images)
            .map_err(file("read the sources of the tailnet's programs in", images))?;
        if let Ok(programs) = Self::of(directory, &sources) {
            return Ok(programs);
        }
        fs::create_dir_all(directory).map_err(file("create", directory))?;
        let _lock = FileLock::acquire(&directory.join(".building")).map_err(file("lock", directory))?;
        // Another process may have built the programs while this process waited for the lock.
        if let Ok(programs) = Self::of(directory, &sources) {
            return Ok(programs);
        }
        for (program, module, package) in PACKAGES {
            build(&images.join(module), program, package, &directory.join(program))?;
        }
        let path = directory.join(SOURCES_FILE);
        fs::write(&path, sources.to_string()).map_err(file("write", &path))?;
        Self::of(directory, &sources)
    }

    /// Uses the programs in `directory`. Builds them from the Go modules that the lab contains, which are
    /// unpacked into `cache`, if one is missing or was built from other sources. Blocks like [`Programs::at_or_built`].
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
        BuildError::Start(source) if source.kind() == io::ErrorKind::NotFound => {
            ProgramsError::NoGo { directory: target.parent().unwrap_or(target).to_owned() }
        }
        BuildError::Start(source) => file("run go in", module)(source),
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
    fn a_program_that_is_missing_or_of_other_sources_is_named_with_the_way_to_get_it() {
        let directory = tempfile::tempdir().unwrap();
        for program in [HEADSCALE, TAILSCALED] {
            fs::write(directory.path().join(program), "").unwrap();
        }
        let error = Programs::at(directory.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("there is no tailscale in ") && error.contains("lab image programs tailnet"),
            "{error}"
        );
        fs::write(directory.path().join(TAILSCALE), "").unwrap();
        for sources in [None, Some(Digest::of_bytes(b"other tags"))] {
            if let Some(sources) = sources {
                fs::write(directory.path().join(SOURCES_FILE), sources.to_string()).unwrap();
            }
            let error = Programs::at(directory.path()).unwrap_err().to_string();
            assert!(error.contains(" were built from other sources; "), "{error}");
        }
        fs::write(directory.path().join(SOURCES_FILE), SOURCES.digest().to_string()).unwrap();
        assert_eq!(Programs::at(directory.path()).unwrap().headscale(), directory.path().join(HEADSCALE));
    }
}
