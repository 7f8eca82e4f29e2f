//! Edits of a Go program's dependencies at build time. `edits.yaml` beside `go.mod` lists the edits. `go
//! build` uses edited copies instead of the originals.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::step::{RecipeError, file, run};

/// File name of the list.
const LIST: &str = "edits.yaml";

/// A dependency with edits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EditedModule {
    module: String,
    files: Vec<EditedFile>,
}

/// The edits of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EditedFile {
    file: PathBuf,
    edits: Vec<Edit>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    replace: String,
    by: String,
    #[serde(default = "once")]
    times: usize,
}

fn once() -> usize {
    1
}

/// Copies a module with edited dependencies into `directory`, together with the edited dependencies.
///
/// Returns whether the module has edits. Without edits, nothing is copied. (`go build -overlay` would be
/// simpler, but rejects files in the module cache.)
///
/// # Errors
/// Returns an error if the list is malformed, or if the number of occurrences of a text differs from the
/// list.
pub(super) fn apply(module: &Path, directory: &Path) -> Result<bool, RecipeError> {
    let list = module.join(LIST);
    if !list.exists() {
        return Ok(false);
    }
    let text = fs::read_to_string(&list).map_err(file("read", &list))?;
    let edited: Vec<EditedModule> = serde_yaml::from_str(&text).map_err(|error| unfit(&list, &error))?;
    copy_tree(module, directory)?;
    for (number, edited) in edited.iter().enumerate() {
        // On a fresh machine, the module is not in the cache yet and has no directory.
        run(go(module).args(["mod", "download", &edited.module]))?;
        let original = run(go(module).args(["list", "-m", "-f", "{{.Dir}}", &edited.module]))?;
        // The path is relative because the program records it. It is then identical on every machine.
        let place = format!("./edited/{number}");
        let copy = directory.join(&place);
        copy_tree(Path::new(original.trim()), &copy)?;
        for edited in &edited.files {
            let path = copy.join(&edited.file);
            let source = fs::read_to_string(&path).map_err(file("read", &path))?;
            let changed = edited.apply(source).map_err(|problem| unfit(&list, &problem))?;
            fs::remove_file(&path).map_err(file("replace", &path))?;
            fs::write(&path, changed).map_err(file("write", &path))?;
        }
        run(go(directory).args(["mod", "edit", &format!("-replace={}={place}", edited.module)]))?;
    }
    Ok(true)
}

fn go(module: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(module);
    command
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), RecipeError> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.map_err(|error| RecipeError::File {
            action: "read",
            path: error.path().unwrap_or(from).to_owned(),
            source: error.into(),
        })?;
        let target = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).map_err(file("create", &target))?;
        } else {
            fs::copy(entry.path(), &target).map_err(file("copy", entry.path()))?;
        }
    }
    Ok(())
}

fn unfit(list: &Path, problem: &impl ToString) -> RecipeError {
    RecipeError::Edits { path: list.to_owned(), problem: problem.to_string() }
}

impl EditedFile {
    fn apply(&self, mut source: String) -> Result<String, String> {
        for edit in &self.edits {
            let found = source.matches(&edit.replace).count();
            if found != edit.times {
                return Err(format!(
                    "{} holds this text {found} times and not {}, look at the change again: {}",
                    self.file.display(),
                    edit.times,
                    edit.replace.trim()
                ));
            }
            source = source.replace(&edit.replace, &edit.by);
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(times: usize) -> EditedFile {
        let edit = Edit { replace: "old".to_owned(), by: "new".to_owned(), times };
        EditedFile { file: "a.go".into(), edits: vec![edit] }
    }

    #[test]
    fn each_occurrence_is_replaced() {
        assert_eq!(edited(2).apply("old, old".to_owned()).as_deref(), Ok("new, new"));
    }

    #[test]
    fn a_text_that_is_not_there_as_often_as_expected_fails_the_build() {
        let problem = edited(1).apply("something else".to_owned()).unwrap_err();
        assert!(problem.contains("a.go holds this text 0 times and not 1"), "{problem}");
    }
}
