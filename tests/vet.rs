//! `lab vet` and `lab init` as a user meets them. Nothing boots.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn lab(directory: &Path, arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_lab")).current_dir(directory).args(arguments).output()?)
}

/// What `lab vet` found, by the name of the check.
fn vetted(arguments: &[&str], code: i32) -> Result<Vec<(String, Value)>> {
    let output = lab(root(), &[&["vet", "--json"], arguments].concat())?;
    ensure!(output.status.code() == Some(code), "{arguments:?}: {output:?}");
    let all: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    all.into_iter().map(|one| Ok((one["name"].as_str().context("name")?.to_owned(), one))).collect()
}

fn passes_on(check: &Value) -> Vec<&str> {
    let findings = check["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter_map(|finding| finding["passes"]["on"].as_str()).collect()
}

fn reasons(check: &Value) -> Vec<&str> {
    let findings = check["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    findings.iter().filter_map(|finding| finding["line"]["reason"].as_str()).collect()
}

#[test]
fn three_vacuous_scripts_are_found_by_what_they_do_and_by_how_they_are_written() -> Result<()> {
    let found = vetted(&["--allow-run", "--limit", "10", "tests/own-checks/vacuous"], 1)?;
    let [drops, judges, skips] = &found[..] else { anyhow::bail!("{found:?}") };
    for ((name, check), reason) in
        [(drops, "failure-dropped"), (judges, "pipe-unchecked"), (skips, "missing-tool-passes")]
    {
        ensure!(passes_on(check).contains(&"no-api"), "{name}: {check}");
        ensure!(passes_on(check).contains(&"no-tools"), "{name}: {check}");
        ensure!(reasons(check).contains(&reason), "{name}: {check}");
    }
    Ok(())
}

#[test]
fn checks_that_look_fail_on_every_broken_cluster() -> Result<()> {
    let found = vetted(
        &[
            "--allow-run",
            "--limit",
            "4",
            "tests/own-checks/own-checks.yaml",
            "lab/starter/templates/nodes-ready.sh",
        ],
        0,
    )?;
    ensure!(found.len() == 7, "{found:?}");
    for (name, check) in &found {
        let fails = check["fails"].as_array().context("fails")?;
        ensure!(fails.len() >= 3, "{name}: {check}");
    }
    Ok(())
}

#[test]
fn without_permission_scripts_are_read_and_not_run() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("touch.sh");
    fs::write(&script, "#!/bin/sh\ntouch \"$0.ran\"\ncurl http://x || true\n")?;
    Command::new("chmod").arg("+x").arg(&script).status()?;
    let file = script.to_string_lossy().into_owned();
    let output = lab(directory.path(), &["vet", &file])?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.code() == Some(1) && said.contains(":3: `|| true` drops the failure"), "{said}");
    ensure!(
        said.contains("--allow-run runs them") && !directory.path().join("touch.sh.ran").exists(),
        "{said}"
    );
    Ok(())
}

/// An empty directory with the files of `lab init`.
/// A test is read as a scenario is: files elsewhere only with permission.
#[test]
fn a_chainsaw_test_names_files_of_its_own_directory() -> Result<()> {
    let [tests, elsewhere] = [tempfile::tempdir()?, tempfile::tempdir()?];
    let pod = elsewhere.path().join("pod.yaml");
    fs::write(&pod, "apiVersion: v1\nkind: Pod\nmetadata: { name: a }\n")?;
    let test = format!(
        "apiVersion: chainsaw.kyverno.io/v1alpha1\nkind: Test\nmetadata: {{ name: t }}\nspec:\n  steps:\n  - try:\n    \
         - assert: {{ file: {} }}\n",
        pod.display()
    );
    let file = tests.path().join("chainsaw-test.yaml");
    fs::write(&file, test)?;
    let file = file.display().to_string();
    let refused = lab(root(), &["vet", &file])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    ensure!(
        said.contains("it is outside of the directory of the scenario; --allow-path DIR allows it"),
        "{said}"
    );
    let allowed = lab(root(), &["vet", "--allow-path", &elsewhere.path().display().to_string(), &file])?;
    ensure!(allowed.status.success(), "{allowed:?}");
    Ok(())
}

fn initialised() -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    let image = |name: &str| root().join("target/images").join(name).to_string_lossy().into_owned();
    let (compute, gateway) = (image("compute"), image("gateway"));
    let arguments = ["init", "--compute", &compute, "--gateway", &gateway, "--action", "you/lab@v1"];
    let output = lab(directory.path(), &arguments)?;
    ensure!(output.status.success(), "{output:?}");
    let output = lab(directory.path(), &["init", "--tests"])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(directory)
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    let files = all.map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

#[test]
fn the_files_of_init_are_complete_and_its_scripts_are_sound() -> Result<()> {
    let directory = initialised()?;
    let names: Vec<_> = walkdir::WalkDir::new(directory.path())
        .sort_by_file_name()
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| Some(entry.path().strip_prefix(directory.path()).ok()?.display().to_string()))
        .collect();
    insta::assert_snapshot!(names.join("\n"));
    for file in names.iter().map(|name| directory.path().join(name)) {
        let text = fs::read_to_string(&file)?;
        ensure!(!text.contains("{{"), "{}: a word was not filled in", file.display());
    }
    let scripts = files(directory.path(), "sh");
    ensure!(scripts.len() == 5, "{scripts:?}");
    let checked = Command::new("shellcheck").args(&scripts).output().context("running shellcheck")?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let scripts: Vec<_> = scripts.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let scripts: Vec<_> = ["vet"].into_iter().chain(scripts.iter().map(String::as_str)).collect();
    let output = lab(directory.path(), &scripts)?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn the_workflow_of_init_is_one_and_hands_the_action_its_inputs() -> Result<()> {
    let directory = initialised()?;
    let file = directory.path().join(".github/workflows/cluster-formation.yml");
    let checked = Command::new("go")
        .args(["tool", "actionlint", "-shellcheck="])
        .arg(&file)
        .current_dir(root().join("tools/actionlint"))
        .output()
        .context("running actionlint")?;
    ensure!(checked.status.success(), "{checked:?}");
    let workflow: Value = serde_yaml::from_str(&fs::read_to_string(&file)?)?;
    let action: Value = serde_yaml::from_str(&fs::read_to_string(root().join("action.yml"))?)?;
    let steps = workflow["jobs"]["formation"]["steps"].as_array().context("steps")?;
    let step = steps.iter().find(|step| step["uses"] == "you/lab@v1").context("the step of the lab")?;
    for input in step["with"].as_object().context("with")?.keys() {
        ensure!(action["inputs"].get(input).is_some(), "the action has no input {input}");
    }
    let scenarios: Vec<&str> =
        step["with"]["scenarios"].as_str().context("scenarios")?.split_whitespace().collect();
    ensure!(scenarios.len() == 5, "{scenarios:?}");
    for scenario in scenarios {
        ensure!(directory.path().join(scenario).is_file(), "{scenario} does not exist");
    }
    Ok(())
}

#[test]
fn the_scenarios_of_init_can_be_planned_with_the_images_of_lab_yaml() -> Result<()> {
    for name in ["compute", "gateway"] {
        let image = root().join("target/images").join(name).join("boot/initramfs.xz");
        ensure!(image.is_file(), "no image at {}: build the images first (make images)", image.display());
    }
    let directory = initialised()?;
    let images = root().join("target/images").to_string_lossy().into_owned();
    for file in files(&directory.path().join("scenarios"), "yaml") {
        let file = file.to_string_lossy().into_owned();
        let output = lab(directory.path(), &["run", "--dry-run", "--images", &images, &file])?;
        ensure!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[test]
fn the_tests_of_init_fail_when_they_cannot_look() -> Result<()> {
    let directory = initialised()?;
    let script = directory.path().join("tests/cluster-formation/01-compute-only-cluster.sh");
    let missing = Command::new(&script).env("LAB", "no-such-lab").output()?;
    ensure!(missing.status.code() == Some(1), "{missing:?}");
    ensure!(String::from_utf8(missing.stderr)?.contains("❌ 01-compute-only-cluster: there is no program"));
    // A lab that refuses its arguments has checked nothing.
    let refused = Command::new(&script)
        .arg("--no-such-option")
        .env("LAB", env!("CARGO_BIN_EXE_lab"))
        .current_dir(directory.path())
        .output()?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    ensure!(String::from_utf8(refused.stdout)?.contains("so nothing was checked"));
    Ok(())
}
