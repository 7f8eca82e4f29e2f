//! The workflows, beyond what actionlint (`make check`) sees in them, and the recipe of the container image.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{files, root, runner::Action};

fn workflows() -> Result<Vec<(String, String)>> {
    let names = files()?.into_iter().filter(|name| name.starts_with(".github/workflows/"));
    let read = |name: String| Ok((name.clone(), fs::read_to_string(root().join(name))?));
    names.map(read).collect()
}

#[test]
fn other_peoples_actions_are_pinned_to_a_commit_with_their_version_beside_it() -> Result<()> {
    let mut texts = workflows()?;
    assert!(texts.len() >= 3);
    texts.push(("action.yml".into(), fs::read_to_string(root().join("action.yml"))?));
    let mut pins = BTreeSet::new();
    for (name, text) in &texts {
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let Some((_, used)) = line.split_once("uses: ") else { continue };
            if used.starts_with("./") {
                continue;
            }
            let (pin, version) = used.split_once(" # v").with_context(|| format!("{name}: {used}"))?;
            let (action, commit) = pin.split_once('@').with_context(|| format!("{name}: {used}"))?;
            assert!(
                commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{name}: {used}"
            );
            let owner = action.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
            pins.insert((owner, commit.to_owned(), version.to_owned()));
        }
    }
    let actions: BTreeSet<_> = pins.iter().map(|(action, ..)| action).collect();
    assert_eq!(actions.len(), pins.len(), "one version of each action is enough: {pins:?}");
    Ok(())
}

#[test]
fn what_workflows_hand_to_the_action_are_its_inputs() -> Result<()> {
    let action = Action::read(root())?;
    let mut calls = 0;
    for (name, text) in workflows()? {
        let workflow: Value = serde_yaml::from_str(&text).with_context(|| name.clone())?;
        assert_eq!(workflow["permissions"]["contents"], "read", "{name} may do more than it needs");
        for (job, content) in workflow["jobs"].as_object().context("jobs")? {
            for step in content["steps"].as_array().into_iter().flatten() {
                if !["./", "./.lab"].iter().any(|own| step["uses"] == *own) {
                    continue;
                }
                calls += 1;
                for input in step["with"].as_object().into_iter().flat_map(|with| with.keys()) {
                    assert!(
                        action.inputs.contains_key(input),
                        "{name}, {job}: the action has no input {input}"
                    );
                }
            }
        }
    }
    assert!(calls >= 3);
    Ok(())
}

#[test]
fn scripts_that_workflows_call_are_there() -> Result<()> {
    let files = files()?;
    for (name, text) in workflows()? {
        for word in text.split_whitespace().filter(|word| word.starts_with("scripts/")) {
            assert!(files.iter().any(|file| file == word), "{name}: there is no {word}");
        }
    }
    Ok(())
}

#[test]
fn the_container_image_contains_existing_files_and_runs_as_an_ordinary_user() -> Result<()> {
    let text = fs::read_to_string(root().join("Dockerfile"))?;
    let lines = |word: &'static str| text.lines().filter_map(move |line| line.strip_prefix(word));
    let bases: Vec<_> =
        lines("FROM ").map(|base| base.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(bases.len(), 2);
    // The runtime's own registry; no host is named.
    assert!(bases.iter().all(|base| !base.contains('/') && base.contains(':')), "{bases:?}");
    assert_eq!(lines("USER ").next_back(), Some("1000"));
    for copied in lines("COPY ").filter(|copied| !copied.contains("--from=")) {
        let mut words = copied.split_whitespace().filter(|word| !word.starts_with("--"));
        let from = words.next().context("a source")?;
        assert!(root().join(from).exists(), "COPY {copied}");
    }
    assert_eq!(lines("CMD ").next(), Some("[\"scripts/ci/run\"]"));
    Ok(())
}
