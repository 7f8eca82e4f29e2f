//! A run root of a test's own.

use std::{fs, path::Path};

use anyhow::Result;
use tempfile::TempDir;

/// Creates a run root below target/lab. Its name begins with `prefix`.
pub fn run_root(prefix: &str) -> Result<TempDir> {
    let below = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab");
    fs::create_dir_all(&below)?;
    Ok(tempfile::Builder::new().prefix(prefix).tempdir_in(below)?)
}
