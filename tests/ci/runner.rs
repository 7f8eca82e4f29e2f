//! What GitHub's runner does with a composite action, as far as its steps run scripts: conditions, variables, outputs.
//! Steps that use other actions are passed over, as if a cache had nothing and nothing were uploaded.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::expression::{Contexts, holds, interpolated};

/// An action's metadata file; nothing in it is not understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    #[expect(dead_code, reason = "for people")]
    name: String,
    #[expect(dead_code, reason = "for people")]
    description: String,
    #[expect(dead_code, reason = "for people")]
    author: String,
    #[expect(dead_code, reason = "for people")]
    branding: serde_json::Value,
    pub inputs: BTreeMap<String, Input>,
    pub outputs: BTreeMap<String, Output>,
    pub runs: Runs,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub description: String,
    pub default: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub description: String,
    pub value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    pub using: String,
    pub steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub name: String,
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, rename = "if")]
    pub condition: Option<String>,
    #[serde(default)]
    pub uses: Option<String>,
    #[serde(default)]
    pub with: BTreeMap<String, String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub shell: Option<String>,
    #[serde(default)]
    pub run: Option<String>,
}

/// What came of an action's steps.
#[derive(Debug, Default)]
pub struct Ran {
    /// The names of the steps that ran a script, and whether it succeeded.
    pub steps: Vec<(String, bool)>,
    /// The action's outputs.
    pub outputs: BTreeMap<String, String>,
    /// What the job's summary became.
    pub summary: String,
    /// What later steps of the job get as variables.
    pub environment: String,
    /// All that was printed.
    pub log: String,
}

/// A runner: where the action was checked out, and where its caller is.
pub struct Runner {
    pub action: PathBuf,
    pub workspace: PathBuf,
    pub temp: PathBuf,
    pub origin: Origin,
}

/// What `uses` names. Everything is empty for an action that is in the caller's own workspace.
#[derive(Default)]
pub struct Origin {
    /// The address of the server, without a path.
    pub server: String,
    /// OWNER/NAME.
    pub repository: String,
    pub reference: String,
}

impl Action {
    /// Reads the action of a checkout.
    pub fn read(checkout: &Path) -> Result<Self> {
        let text = fs::read_to_string(checkout.join("action.yml"))?;
        serde_yaml::from_str(&text).context("action.yml")
    }

    /// What expressions of its steps can see before any has run.
    pub fn contexts(&self, inputs: &[(&str, &str)]) -> Result<Contexts> {
        let mut contexts = Contexts::default();
        for (name, input) in &self.inputs {
            contexts.values.insert(format!("inputs.{name}"), input.default.clone());
        }
        for (name, value) in inputs {
            let known = contexts.values.insert(format!("inputs.{name}"), (*value).to_owned());
            ensure!(known.is_some(), "the action has no input {name}");
        }
        for id in self.runs.steps.iter().filter_map(|step| step.id.as_ref()) {
            contexts.open.insert(format!("steps.{id}.outputs."));
        }
        Ok(contexts)
    }
}

impl Runner {
    /// Runs the action's steps with these inputs.
    pub fn run(&self, inputs: &[(&str, &str)]) -> Result<Ran> {
        let action = Action::read(&self.action)?;
        let mut contexts = action.contexts(inputs)?;
        let path = |path: &Path| path.display().to_string();
        contexts.values.insert("github.action_path".to_owned(), path(&self.action));
        contexts.values.insert("runner.temp".to_owned(), path(&self.temp));
        for (name, value) in [
            ("server_url", &self.origin.server),
            ("action_repository", &self.origin.repository),
            ("action_ref", &self.origin.reference),
        ] {
            contexts.values.insert(format!("github.{name}"), value.clone());
        }
        let mut ran = Ran::default();
        let mut failed = false;
        let [summary, environment] = ["summary.md", "environment"].map(|name| self.temp.join(name));
        for file in [&summary, &environment] {
            fs::write(file, "")?;
        }
        for step in &action.runs.steps {
            let told = || format!("step \"{}\"", step.name);
            let condition = step.condition.as_deref().unwrap_or("'yes'");
            if !holds(condition, &contexts, failed).with_context(told)? {
                continue;
            }
            for value in step.with.values() {
                interpolated(value, &contexts).with_context(told)?;
            }
            let Some(script) = &step.run else { continue };
            let outputs = self.temp.join("outputs");
            fs::write(&outputs, "")?;
            let mut command = Command::new("bash");
            command.args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]);
            for (name, value) in &step.env {
                command.env(name, interpolated(value, &contexts).with_context(told)?);
            }
            command
                .current_dir(&self.workspace)
                .env("GITHUB_ACTION_PATH", &self.action)
                .env("GITHUB_OUTPUT", &outputs)
                .env("GITHUB_STEP_SUMMARY", &summary)
                .env("GITHUB_ENV", &environment)
                .env("RUNNER_TEMP", &self.temp)
                .env_remove("GITHUB_ACTIONS")
                .stdin(Stdio::null());
            let output = command.output().with_context(told)?;
            failed |= !output.status.success();
            ran.steps.push((step.name.clone(), output.status.success()));
            for bytes in [&output.stdout, &output.stderr] {
                ran.log += &String::from_utf8_lossy(bytes);
            }
            let id = step.id.as_deref().unwrap_or("");
            for line in fs::read_to_string(&outputs)?.lines() {
                let (name, value) = line.split_once('=').with_context(|| format!("{}: {line}", told()))?;
                contexts.values.insert(format!("steps.{id}.outputs.{name}"), value.to_owned());
            }
        }
        ran.summary = fs::read_to_string(&summary)?;
        ran.environment = fs::read_to_string(&environment)?;
        for (name, output) in &action.outputs {
            ran.outputs.insert(name.clone(), interpolated(&output.value, &contexts)?);
        }
        Ok(ran)
    }
}

impl Ran {
    /// The verdict.
    pub fn verdict(&self) -> &str {
        self.outputs.get("verdict").map_or("", String::as_str)
    }
}
