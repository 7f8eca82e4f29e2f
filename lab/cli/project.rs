//! `lab.yaml` in the current directory: the images of a repository, as defaults of `lab run` and `lab up`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
};

use lab::session::SessionOptions;
use lab_model::{ExitCode, Source, files::read_text_bounded, node::Role};
use serde::Deserialize;

use super::Failed;

const FILE: &str = "lab.yaml";
/// The largest file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The contents of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Project {
    #[serde(default)]
    roles: BTreeMap<String, ProjectRole>,
    /// An OCI image layout that nodes pull from.
    mirror: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectRole {
    image: String,
}

impl Project {
    /// The file of the current directory, or an empty one if there is none.
    pub(super) fn here() -> Result<Self, Failed> {
        Self::read(Path::new(FILE))
    }

    fn read(path: &Path) -> Result<Self, Failed> {
        let bad = |error: &dyn std::fmt::Display| {
            let error = error.to_string();
            let error = error.lines().next().unwrap_or_default();
            Failed::new(
                ExitCode::BadInput,
                format!("{}: {error}; `lab init` writes this file", path.display()),
            )
        };
        match read_text_bounded(path, LARGEST) {
            Ok(text) => {
                let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
                serde_saphyr::from_str_with_options(&text, options)
                    .map_err(|error: serde_saphyr::Error| bad(&error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(bad(&error)),
        }
    }

    /// Adds what the command line does not say.
    pub(super) fn fill(self, options: &mut SessionOptions) -> Result<(), Failed> {
        for (role, ProjectRole { image }) in self.roles {
            let role = Role::new(role)
                .map_err(|error| Failed::new(ExitCode::BadInput, format!("{FILE}: {error}")))?;
            if let Entry::Vacant(entry) = options.given.entry(role) {
                entry.insert(Source::parse(&image)?);
            }
        }
        if options.mirrors.is_empty() {
            // The directory exists once `lab mirror pull` has filled it.
            options.mirrors.extend(self.mirror.filter(|mirror| mirror.exists()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Project, String> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("write");
        Project::read(file.path()).map_err(|failed| failed.message)
    }

    #[test]
    fn the_command_line_precedes_the_file() {
        let text = "roles:\n  compute: { image: ghcr.io/you/compute:v1 }\n  gateway: { image: ghcr.io/you/gateway:v1 }\n";
        let mut options = SessionOptions::new("test");
        let role = |name: &str| Role::new(name).expect("role");
        let mine = Source::parse("ghcr.io/you/other:v2").expect("source");
        options.given.insert(role("compute"), mine.clone());
        assert!(read(text).expect("read").fill(&mut options).is_ok());
        assert_eq!(options.given.get(&role("compute")), Some(&mine));
        assert_eq!(options.given[&role("gateway")].to_string(), "ghcr.io/you/gateway:v1");
    }

    #[test]
    fn no_file_is_no_default_and_a_wrong_one_is_an_error() {
        assert!(Project::read(Path::new("/does/not/exist")).is_ok_and(|project| project.roles.is_empty()));
        let error = read("roles:\n  compute: { imag: x }\n").expect_err("wrong");
        assert!(error.contains("imag") && error.ends_with("`lab init` writes this file"), "{error}");
    }
}
