//! Looking for secrets where there must be none.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

/// Fails when a file holds one of `secrets`.
pub fn search(files: Vec<PathBuf>, secrets: &[String]) -> Result<()> {
    for path in files {
        // Processes come and go.
        let Ok(content) = fs::read(&path) else { continue };
        let content = String::from_utf8_lossy(&content);
        for secret in secrets {
            ensure!(!content.contains(secret.as_str()), "{} holds an auth key", path.display());
        }
    }
    Ok(())
}

/// All files below a directory.
pub fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

/// Argument vectors and environments, where the system shows them as files.
pub fn process_files() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    processes.flat_map(|entry| [entry.path().join("cmdline"), entry.path().join("environ")]).collect()
}
