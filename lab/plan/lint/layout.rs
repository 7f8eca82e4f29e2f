//! The config files in a directory, in the layouts of talhelper and talm.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::config_set::ReadError;

/// Returns the files of each path. A directory stands for the configs in it; that of talhelper or talm for the
/// configs that the tool rendered.
///
/// # Errors
/// Returns an error for a directory that cannot be read or has no configs.
pub fn config_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ReadError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(in_directory(path).map_err(|source| ReadError { path: path.clone(), source })?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn in_directory(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let has = |name: &str| directory.join(name).exists();
    let (rendered, missing) = if has("talconfig.yaml") || has("talconfig.yml") {
        (
            directory.join("clusterconfig"),
            "no rendered configs in clusterconfig/; run talhelper genconfig first",
        )
    } else if has("Chart.yaml") && has("templates") {
        (directory.join("nodes"), "no rendered configs in nodes/; run talm template first")
    } else {
        (directory.to_owned(), "no YAML files in it; name the files")
    };
    let mut files = match yaml_files(&rendered) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        files => files?,
    };
    if files.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, missing));
    }
    files.sort();
    Ok(files)
}

fn yaml_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if yaml && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("directory");
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            fs::write(path, "").expect("file");
        }
        directory
    }

    fn found(files: &[&str]) -> Result<Vec<String>, String> {
        let directory = directory(files);
        let found = config_files(&[directory.path().to_owned()]).map_err(|error| error.to_string())?;
        let below =
            |path: &PathBuf| path.strip_prefix(directory.path()).expect("below").display().to_string();
        Ok(found.iter().map(below).collect())
    }

    #[test]
    fn a_directory_of_a_tool_stands_for_what_the_tool_rendered() {
        let talhelper =
            ["talconfig.yaml", "talsecret.sops.yaml", "clusterconfig/a-cp.yaml", "clusterconfig/talosconfig"];
        assert_eq!(found(&talhelper).expect("files"), ["clusterconfig/a-cp.yaml"]);
        let talm = [
            "Chart.yaml",
            "values.yaml",
            "secrets.yaml",
            "templates/_helpers.tpl",
            "nodes/b.yaml",
            "nodes/a.yaml",
        ];
        assert_eq!(found(&talm).expect("files"), ["nodes/a.yaml", "nodes/b.yaml"]);
        assert_eq!(
            found(&["worker.yaml", "cp.yml", "talosconfig", "x/y.yaml"]).expect("files"),
            ["cp.yml", "worker.yaml"]
        );
    }

    #[test]
    fn a_directory_without_configs_says_what_to_do() {
        let error = found(&["talconfig.yaml"]).expect_err("nothing rendered");
        assert!(error.ends_with("run talhelper genconfig first"), "{error}");
        let error = found(&["Chart.yaml", "templates/x"]).expect_err("nothing rendered");
        assert!(error.ends_with("run talm template first"), "{error}");
        assert!(found(&["README.md"]).is_err());
    }
}
