//! Where the lab finds its images, and where it keeps its runs.
//!
//! In a project, both are below `target`. Elsewhere, the images are those that came with the program, and the runs are in
//! the home directory:
//!
//! ```text
//! images    target/images    PREFIX/share/lab/images, where the program is PREFIX/bin/lab
//! runs      target/lab       $XDG_STATE_HOME/lab, or ~/.local/state/lab
//! mirror    target/mirror    mirror in the directory of the runs
//! ```

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Below a project.
const PROJECT_IMAGES: &str = "target/images";
const PROJECT_RUNS: &str = "target/lab";
const PROJECT_MIRROR: &str = "target/mirror";
/// What makes a directory a project: the directory of everything built, or the file that `lab init` writes.
const PROJECT_MARKS: [&str; 2] = ["target", "lab.yaml"];
/// The images of a release archive and of its packages, beside the directory of the program.
const SHIPPED_IMAGES: &str = "share/lab/images";
/// Below the home directory, without `XDG_STATE_HOME` (XDG Base Directory Specification 0.8).
const STATE: &str = ".local/state";

/// There are no images where the lab looks for them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are no images: neither {PROJECT_IMAGES} in this directory nor {} exists; unpack a release archive of the lab and \
     start its bin/lab, build the images with `make images` in a checkout of the lab, or name their directory with --images",
    shipped.as_ref().map_or_else(|| "a directory beside this program".to_owned(), |path| path.display().to_string())
)]
pub struct NoImages {
    /// Where the images of this program would be.
    shipped: Option<PathBuf>,
}

/// What decides where things are.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The working directory; empty for that of this process, so that paths in a project stay short.
    directory: PathBuf,
    /// The directory of the program, without links.
    program: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    state: Option<PathBuf>,
    /// `HOME`.
    home: Option<PathBuf>,
}

impl Places {
    /// The places of this process.
    pub fn here() -> Self {
        // Homebrew and others link to the program. macOS names the link.
        let program = env::current_exe().and_then(fs::canonicalize).ok();
        // The specification tells to ignore relative paths.
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            directory: PathBuf::new(),
            program: program.and_then(|program| Some(program.parent()?.to_owned())),
            state: absolute("XDG_STATE_HOME"),
            home: absolute("HOME"),
        }
    }

    /// The directory of built images: that of the project, otherwise the one that came with the program.
    ///
    /// # Errors
    /// If neither exists.
    pub fn images(&self) -> Result<PathBuf, NoImages> {
        let own = self.directory.join(PROJECT_IMAGES);
        let shipped = self.shipped_images();
        match &shipped {
            _ if own.is_dir() => Ok(own),
            Some(path) if path.is_dir() => Ok(path.clone()),
            _ => Err(NoImages { shipped }),
        }
    }

    /// Where images and programs are built if there are none: below the project, otherwise beside the runs.
    pub fn built(&self) -> PathBuf {
        let outside = || self.state_home().map(|state| state.join("lab/images"));
        self.outside_of_projects(outside).unwrap_or_else(|| self.directory.join(PROJECT_IMAGES))
    }

    /// The directory of the runs.
    pub fn runs(&self) -> PathBuf {
        let outside = || self.state_home().map(|state| state.join("lab"));
        self.outside_of_projects(outside).unwrap_or_else(|| self.directory.join(PROJECT_RUNS))
    }

    /// The mirror that `--pull-through` fills.
    pub fn mirror(&self) -> PathBuf {
        let outside = || self.state_home().map(|state| state.join("lab/mirror"));
        self.outside_of_projects(outside).unwrap_or_else(|| self.directory.join(PROJECT_MIRROR))
    }

    /// Whether `images` is the directory that came with the program.
    pub fn came_with_the_program(&self, images: &Path) -> bool {
        self.shipped_images().is_some_and(|shipped| shipped == images)
    }

    fn shipped_images(&self) -> Option<PathBuf> {
        let shipped = self.program.as_ref()?.parent()?.join(SHIPPED_IMAGES);
        Some(fs::canonicalize(&shipped).unwrap_or(shipped))
    }

    fn state_home(&self) -> Option<PathBuf> {
        self.state.clone().or_else(|| Some(self.home.as_ref()?.join(STATE)))
    }

    /// `place` unless the working directory is a project.
    fn outside_of_projects(&self, place: impl FnOnce() -> Option<PathBuf>) -> Option<PathBuf> {
        let is_project = PROJECT_MARKS.iter().any(|mark| self.directory.join(mark).exists());
        if is_project { None } else { place() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A working directory, and a program with its images, in one directory.
    fn unpacked() -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().expect("directory");
        for name in ["work", "archive/bin", "archive/share/lab/images"] {
            fs::create_dir_all(root.path().join(name)).expect("directory");
        }
        let place = |name: &str| root.path().canonicalize().expect("root").join(name);
        let places = Places {
            directory: place("work"),
            program: Some(place("archive/bin")),
            state: None,
            home: Some(place("home")),
        };
        (root, places)
    }

    #[test]
    fn images_are_those_of_the_project_then_those_of_the_program_then_an_error() {
        let (root, places) = unpacked();
        let shipped = places.images().expect("shipped");
        assert!(shipped.ends_with("archive/share/lab/images"), "{}", shipped.display());
        assert!(places.came_with_the_program(&shipped));
        let own = places.directory.join("target/images");
        fs::create_dir_all(&own).expect("directory");
        assert_eq!(places.images(), Ok(own.clone()));
        assert!(!places.came_with_the_program(&own));
        fs::remove_dir_all(places.directory.join("target")).expect("removed");
        fs::remove_dir_all(root.path().join("archive/share")).expect("removed");
        let told = places.images().expect_err("nothing").to_string();
        assert!(told.contains("archive/share/lab/images"), "{told}");
        assert!(told.contains("make images") && told.contains("--images"), "{told}");
    }

    #[test]
    fn runs_are_in_the_project_or_in_the_home_directory() {
        let (_root, mut places) = unpacked();
        assert!(places.runs().ends_with("home/.local/state/lab"));
        assert!(places.mirror().ends_with("home/.local/state/lab/mirror"));
        places.state = Some("/state".into());
        assert_eq!(places.runs(), Path::new("/state/lab"));
        assert_eq!(places.built(), Path::new("/state/lab/images"));
        fs::write(places.directory.join("lab.yaml"), "").expect("project");
        assert_eq!(places.runs(), places.directory.join("target/lab"));
        assert_eq!(places.mirror(), places.directory.join("target/mirror"));
        assert_eq!(places.built(), places.directory.join("target/images"));
    }

    #[test]
    fn without_a_home_the_runs_are_in_the_working_directory() {
        let (_root, mut places) = unpacked();
        places.home = None;
        assert_eq!(places.runs(), places.directory.join("target/lab"));
    }
}
