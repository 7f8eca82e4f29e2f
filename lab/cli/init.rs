//! `lab init`: the first files of a repository that tests its images.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use lab::starter::{Starter, StarterFile, StarterScenario, files, tests};
use lab_model::{ExitCode, Source};

use super::{Failed, say, scenarios::BuiltIn, tell};

/// How many built-in scenarios a repository gets.
const SCENARIOS: usize = 4;

/// Write scenarios, a workflow and lab.yaml for a repository of images, or test scripts.
///
/// Files that exist are left alone.
#[derive(Args)]
pub struct Init {
    /// Directory of the repository
    #[arg(default_value = ".", value_name = "DIR")]
    directory: PathBuf,
    /// Write tests/cluster-formation/01-compute-only-cluster.sh and so on instead: scripts that call the lab
    #[arg(long)]
    tests: bool,
    /// Compute image: a path or HOST/NAME:TAG
    #[arg(long, value_name = "IMAGE", required_unless_present = "tests")]
    compute: Option<String>,
    /// Gateway image: a path or HOST/NAME:TAG
    #[arg(long, value_name = "IMAGE", required_unless_present = "tests")]
    gateway: Option<String>,
    /// Action of the lab for the workflow
    #[arg(long, value_name = "OWNER/NAME@REF", value_parser = action, required_unless_present = "tests")]
    action: Option<String>,
}

/// A reference to an action in a repository.
fn action(text: &str) -> Result<String, String> {
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
    };
    match text.split_once('@') {
        Some((name, reference)) if name.split('/').count() >= 2 && plain(name) && plain(reference) => {
            Ok(text.to_owned())
        }
        _ => Err("write OWNER/NAME@REF, e.g. you/lab@v1".to_owned()),
    }
}

impl Init {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let built_in: Vec<_> = BuiltIn::ALL.into_iter().take(SCENARIOS).collect();
        let questions = built_in.iter().map(|one| one.scenario().map(|scenario| scenario.question));
        let questions: Vec<_> =
            questions.collect::<Result<_, _>>().map_err(|error| Failed::new(ExitCode::Internal, error))?;
        let scenarios: Vec<_> = built_in
            .iter()
            .zip(&questions)
            .map(|(one, question)| StarterScenario { id: one.id(), text: one.text(), question })
            .collect();
        let files = match (self.compute, self.gateway, self.action) {
            (Some(compute), Some(gateway), Some(action)) if !self.tests => {
                let starter =
                    Starter { compute: Source::parse(&compute)?, gateway: Source::parse(&gateway)?, action };
                files(&starter, &scenarios)
            }
            _ => tests(&scenarios),
        };
        for file in &files {
            let written = write(&self.directory, file).map_err(|error| {
                let path = self.directory.join(&file.path);
                Failed::new(ExitCode::Internal, format!("write {}: {error}", path.display()))
            })?;
            match written {
                true => say!("wrote {}", file.path.display()),
                false => tell!("left {} alone: it exists", file.path.display()),
            }
        }
        Ok(ExitCode::Passed)
    }
}

/// Writes a file unless it exists, and returns whether it did.
fn write(directory: &Path, file: &StarterFile) -> io::Result<bool> {
    let path = directory.join(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // They are files for others to read, unlike those of runs.
    let mode = if file.executable { 0o755 } else { 0o644 };
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
    match opened {
        Ok(mut opened) => {
            opened.write_all(file.text.as_bytes())?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_action_has_an_owner_and_a_version() {
        for good in ["you/lab@v1", "you/lab/sub@0123abc"] {
            assert_eq!(action(good), Ok(good.to_owned()));
        }
        for bad in ["lab@v1", "you/lab", "you/lab@", "you/lab@v1 # x", "you/lab@v1\nrun: x"] {
            assert!(action(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let file = StarterFile { path: "a/b.sh".into(), text: "new".into(), executable: true };
        assert!(write(directory.path(), &file).expect("written"));
        fs::write(directory.path().join("a/b.sh"), "mine").expect("changed");
        assert!(!write(directory.path(), &file).expect("left"));
        assert_eq!(fs::read_to_string(directory.path().join("a/b.sh")).expect("read"), "mine");
    }
}
