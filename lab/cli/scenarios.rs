//! Scenarios by path or by name: the scenarios of `scenarios/` are built in, so that `lab run 01` works in any directory.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use lab::scenario::{Scenario, parse};
use lab_model::{ExitCode, words::nearest};
use lab_plan::scenario::ScenarioError;

use super::Failed;

/// A scenario that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BuiltIn {
    /// Number and name, e.g. `01-compute-only-cluster`.
    id: &'static str,
    text: &'static str,
}

macro_rules! built_in {
    ($($id:literal),* $(,)?) => {
        [$(BuiltIn { id: $id, text: include_str!(concat!("../../scenarios/", $id, ".yaml")) }),*]
    };
}

impl BuiltIn {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = built_in![
        "01-compute-only-cluster",
        "02-mixed-role-cluster",
        "03-tailscale-routing-test",
        "04-extension-isolation",
        "05-network-partition",
    ];

    /// The built-in scenario that `word` stands for: its number, its name, or the beginning of either that no other
    /// built-in scenario shares.
    fn named(word: &str) -> Result<Self, NoSuchScenario> {
        let all = Self::ALL.into_iter();
        if let Some(exact) = all.clone().find(|built_in| built_in.names().contains(&word)) {
            return Ok(exact);
        }
        let found: Vec<_> =
            all.filter(|built_in| built_in.names().iter().any(|name| name.starts_with(word))).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(NoSuchScenario::Unknown { word: word.to_owned() }),
            _ => Err(NoSuchScenario::Ambiguous { word: word.to_owned(), found }),
        }
    }

    /// Id, number, name.
    fn names(self) -> [&'static str; 3] {
        let (number, name) = self.id.split_once('-').unwrap_or((self.id, self.id));
        [self.id, number, name]
    }

    /// Number and name.
    pub(super) fn id(self) -> &'static str {
        self.id
    }

    /// The text of the scenario file.
    pub(super) fn text(self) -> &'static str {
        self.text
    }

    pub(super) fn scenario(self) -> Result<Scenario, ScenarioError> {
        let no_files = |path: &Path| {
            Err(io::Error::other(format!(
                "a built-in scenario cannot name a file, and names {}",
                path.display()
            )))
        };
        parse(&format!("scenarios/{}.yaml", self.id), self.text, Path::new("scenarios"), &no_files)
    }
}

impl fmt::Display for BuiltIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id)
    }
}

/// A word that is neither a scenario file nor one built-in scenario.
#[derive(Debug, PartialEq, Eq)]
enum NoSuchScenario {
    Unknown { word: String },
    Ambiguous { word: String, found: Vec<BuiltIn> },
}

impl fmt::Display for NoSuchScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = |built_in: &[BuiltIn]| built_in.iter().map(|one| one.id).collect::<Vec<_>>().join(", ");
        match self {
            Self::Ambiguous { word, found } => {
                write!(
                    f,
                    "scenario \"{word}\" is ambiguous; write more of one of these names: {}",
                    ids(found)
                )
            }
            Self::Unknown { word } => {
                write!(f, "there is no scenario file \"{word}\" and no built-in scenario of that name; ")?;
                if let Some(near) = nearest(word, &short_names()) {
                    write!(f, "did you mean \"{near}\"? ")?;
                }
                write!(f, "(built-in scenarios: {})", ids(&BuiltIn::ALL))
            }
        }
    }
}

/// Every name of a built-in scenario, and the beginnings of the names that end before a hyphen.
fn short_names() -> Vec<&'static str> {
    let names = BuiltIn::ALL.into_iter().flat_map(BuiltIn::names);
    names.flat_map(|name| name.match_indices('-').map(move |(at, _)| &name[..at]).chain([name])).collect()
}

/// The scenarios that the words stand for. All are read before anything starts, so that a mistake in the last one costs
/// no time. A file takes precedence over a built-in scenario.
pub(super) fn load<W: AsRef<Path>>(words: &[W], allowed: &[PathBuf]) -> Result<Vec<Scenario>, Failed> {
    words.iter().map(|word| load_one(word.as_ref(), allowed)).collect()
}

fn load_one(path: &Path, allowed: &[PathBuf]) -> Result<Scenario, Failed> {
    let scenario = match path.to_str().filter(|_| !is_path(path)) {
        Some(word) => {
            BuiltIn::named(word).map_err(|error| Failed::new(ExitCode::BadInput, error))?.scenario()
        }
        None => lab::scenario::load_allowing(path, allowed),
    };
    Ok(scenario?)
}

/// Whether a word is the path of a file: it exists, or it looks so.
fn is_path(path: &Path) -> bool {
    let exists = path.exists() && !path.is_dir();
    let has_directory = path.components().count() > 1 || path.is_absolute();
    exists
        || has_directory
        || path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(word: &str) -> Result<&'static str, String> {
        BuiltIn::named(word).map(|found| found.id).map_err(|error| error.to_string())
    }

    #[test]
    fn every_scenario_of_the_project_is_built_in_and_needs_no_other_file() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<_> = directory
            .read_dir()
            .expect("scenarios")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, BuiltIn::ALL.map(|built_in| format!("{built_in}.yaml")));
        for built_in in BuiltIn::ALL {
            let scenario = built_in.scenario().expect("a scenario");
            assert_eq!(built_in.names()[2], scenario.name);
        }
    }

    #[test]
    fn a_scenario_is_found_by_number_name_and_the_beginning_of_either() {
        for word in ["02", "02-mixed-role-cluster", "02-mixed", "mixed-role-cluster", "mixed-role", "m"] {
            assert_eq!(id(word).as_deref(), Ok("02-mixed-role-cluster"), "{word}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_one_and_the_list() {
        let told = id("mixd-role").expect_err("unknown");
        assert!(told.contains("did you mean \"mixed-role\"?"), "{told}");
        assert!(BuiltIn::ALL.iter().all(|built_in| told.contains(built_in.id)), "{told}");
        let told = id("zebra").expect_err("unknown");
        assert!(!told.contains("did you mean") && told.contains("01-compute-only-cluster"), "{told}");
    }

    #[test]
    fn an_ambiguous_name_is_answered_with_those_that_it_may_be() {
        let told = id("0").expect_err("ambiguous");
        assert!(told.contains("is ambiguous") && told.contains("05-network-partition"), "{told}");
    }

    #[test]
    fn a_file_takes_precedence_over_a_built_in_scenario() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("mixed-role");
        std::fs::write(
            &file,
            "name: mine\ncluster: { gateways: 0, nodes: [{ name: cp-1, kind: controlplane }] }\n",
        )
        .expect("file");
        assert!(is_path(&file));
        assert_eq!(load(&[&file], &[]).map_err(|failed| failed.message).expect("scenario")[0].name, "mine");
        for (word, path) in [("mixed-role", false), ("mine.yaml", true), ("./01", true), ("dir/01", true)] {
            assert_eq!(is_path(Path::new(word)), path, "{word}");
        }
    }
}
