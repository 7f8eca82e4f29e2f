//! What runs in continuous integration, run here: the steps of the action as they stand in action.yml, the workflows, the
//! container image's recipe.

#[path = "ci/action.rs"]
mod action;
#[path = "ci/dependencies.rs"]
mod dependencies;
#[path = "ci/expression.rs"]
mod expression;
#[path = "ci/hostile.rs"]
mod hostile;
#[path = "ci/release.rs"]
mod release;
#[path = "ci/runner.rs"]
mod runner;
#[path = "ci/sources.rs"]
mod sources;
#[path = "ci/workflows.rs"]
mod workflows;

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};

/// The root of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files that belong to the project, by their paths within it.
fn files() -> Result<Vec<String>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(list).current_dir(root()).output().context("git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout)?;
    let there = |name: &&str| !name.is_empty() && root().join(name).is_file();
    Ok(names.split('\0').filter(there).map(str::to_owned).collect())
}

/// A copy of the project as a fresh checkout has it.
fn clean_copy(to: &Path) -> Result<()> {
    for name in files()? {
        let target = to.join(&name);
        std::fs::create_dir_all(target.parent().context("a directory")?)?;
        std::fs::copy(root().join(&name), target)?;
    }
    Ok(())
}

/// What shellcheck has against a script for bash.
fn shellcheck(script: &str) -> Result<String> {
    use std::{io::Write, process::Stdio};
    let mut process = Command::new("shellcheck")
        .args(["--shell=bash", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start shellcheck (install it with: make setup)")?;
    process.stdin.take().context("standard input")?.write_all(script.as_bytes())?;
    Ok(String::from_utf8(process.wait_with_output()?.stdout)?)
}
