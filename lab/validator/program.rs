//! The programs: where they are, and how they are built.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use lab_model::files::FileLock;
use lab_plan::config::TalosContract;
use lab_programs::Build;

use super::sources;

/// A program could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no Go toolchain.
    #[error(
        "{} is missing, and Go, which builds it, is not installed; install Go (`make setup` in a checkout of the lab), or use a \
         release archive of the lab, which contains it",
        program.display()
    )]
    NoGo {
        /// The program that would be built.
        program: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// The compiler failed.
    #[error("go build with Talos' library {contract} ended with {status}; its last lines:\n{output}")]
    Build {
        contract: &'static str,
        /// The exit status.
        status: String,
        /// The end of the compiler output.
        output: String,
    },
}

/// The programs of one directory.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// The directory of all versions.
    root: PathBuf,
    /// The directory of the programs that this lab needs.
    directory: PathBuf,
}

impl Programs {
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), directory: root.join(sources::version()) }
    }

    /// Returns the path of a program, which may not exist.
    pub(super) fn path(&self, contract: TalosContract) -> PathBuf {
        self.directory.join(contract.as_str())
    }

    /// Returns the path of a program, and builds it if it does not exist. Calls `progress` before a build. A
    /// lock prevents concurrent builds.
    pub(super) fn built(
        &self,
        contract: TalosContract,
        progress: &dyn Fn(&str),
    ) -> Result<PathBuf, BuildError> {
        let path = self.path(contract);
        if path.is_file() {
            return Ok(path);
        }
        fs::create_dir_all(&self.directory).map_err(file("create", &self.directory))?;
        let _lock = FileLock::acquire(&self.root.join(".building")).map_err(file("lock", &self.root))?;
        // Another process may have built the program while this process waited for the lock.
        if !path.is_file() {
            self.build(contract, &path, progress)?;
            self.remove_others();
        }
        Ok(path)
    }

    fn build(&self, contract: TalosContract, path: &Path, progress: &dyn Fn(&str)) -> Result<(), BuildError> {
        let module = self.directory.join("sources");
        sources::SOURCES.unpack(&module).map_err(file("unpack the sources of the validator to", &module))?;
        progress(&format!(
            "building the config check with Talos' own library {}, once; this can take minutes",
            contract.as_str()
        ));
        let module_file = format!("-modfile=go.{}.mod", contract.as_str());
        let options = if contract == TalosContract::default() { &[][..] } else { &[module_file.as_str()] };
        Build { module: &module, options, package: "." }.write(path).map_err(|error| match error {
            lab_programs::BuildError::Start(source) if source.kind() == io::ErrorKind::NotFound => {
                BuildError::NoGo { program: path.to_owned() }
            }
            lab_programs::BuildError::Start(source) => file("run go in", &module)(source),
            lab_programs::BuildError::File { action, path, source } => {
                BuildError::File { action, path, source }
            }
            lab_programs::BuildError::Failed { status, output } => {
                BuildError::Build { contract: contract.as_str(), status, output }
            }
        })
    }

    /// Removes the programs of other versions of the lab, which are large. A version that is still in use
    /// builds its programs again.
    fn remove_others(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() && path != self.directory {
                // Nothing depends on the removal.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

fn file<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> BuildError + use<'a> {
    move |source| BuildError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_is_not_built_again() {
        let root = tempfile::tempdir().expect("directory");
        let programs = Programs::at(root.path());
        let path = programs.path(TalosContract::V1_12);
        fs::create_dir_all(path.parent().expect("parent")).expect("directory");
        fs::write(&path, "").expect("program");
        let built = programs.built(TalosContract::V1_12, &|line| panic!("{line}")).expect("there");
        assert_eq!(built, path);
    }

    #[test]
    fn programs_of_other_versions_are_removed() {
        let root = tempfile::tempdir().expect("directory");
        let programs = Programs::at(root.path());
        for directory in [&root.path().join("0123456789abcdef"), &programs.directory] {
            fs::create_dir_all(directory).expect("directory");
        }
        programs.remove_others();
        let left: Vec<_> =
            fs::read_dir(root.path()).expect("list").map(|e| e.expect("entry").path()).collect();
        assert_eq!(left, [programs.directory]);
    }
}
