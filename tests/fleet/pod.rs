//! A pod of the Indexed Job, as a process of this host: the command and the variables of the rendered manifest, with a
//! directory of this host where the pod has its volume.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use k8s_openapi::api::batch::v1::Job;

use super::{
    rendered::{Release, container},
    root,
};

/// What the manifest mounts the volume of the results at.
const RESULTS: &str = "/results";

/// The volume of a release, and what its pods get beside the manifest.
pub struct Volume {
    /// The directory of this host that stands for `/results`.
    pub results: PathBuf,
    /// The UID of the Job.
    pub uid: String,
    /// Variables that name the lab of this host.
    pub host: Vec<(String, PathBuf)>,
}

impl Volume {
    /// The command of the pod with this index.
    pub fn shard(&self, release: &Release, index: u32) -> Result<Command> {
        let mut command = self.command(release, &release.shards)?;
        // The controller of Jobs adds it.
        command.env("JOB_COMPLETION_INDEX", index.to_string());
        Ok(command)
    }

    /// The command of the pod that merges what is there.
    pub fn merge(&self, release: &Release) -> Result<Command> {
        self.command(release, &release.merge)
    }

    fn command(&self, release: &Release, job: &Job) -> Result<Command> {
        let container = container(job)?;
        let words = container.command.as_ref().context("a command")?;
        let mut command = Command::new(root().join(words.first().context("a program")?));
        command.args(&words[1..]).current_dir(self.results.parent().context("a directory")?);
        // A variable of this test's own environment is none of the pod's.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_job(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(self.variables(release, job)?).envs(self.host.iter().cloned());
        Ok(command)
    }

    /// The variables as the kubelet sets them: those of the ConfigMap first.
    fn variables(&self, release: &Release, job: &Job) -> Result<BTreeMap<String, String>> {
        let container = container(job)?;
        let mut all = BTreeMap::new();
        if container.env_from.iter().flatten().any(|source| source.config_map_ref.is_some()) {
            all.extend(release.settings.data.clone().unwrap_or_default());
        }
        for variable in container.env.iter().flatten() {
            let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
            let value = match (&variable.value, field.map(|field| field.field_path.as_str())) {
                (Some(value), None) => match value.strip_prefix(RESULTS) {
                    Some(below) => format!("{}{below}", self.results.display()),
                    None => value.clone(),
                },
                (None, Some("metadata.labels['batch.kubernetes.io/controller-uid']")) => self.uid.clone(),
                other => anyhow::bail!("{}: {other:?}", variable.name),
            };
            all.insert(variable.name.clone(), value);
        }
        Ok(all)
    }

    /// The verdict of the merged recording, as its `result.json` has it.
    pub fn merged(&self) -> Option<String> {
        let text = fs::read_to_string(self.results.join("merged/result.json")).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        value["ending"].as_str().map(str::to_owned)
    }
}

/// Variables of the lab's scripts and of continuous integration.
fn is_of_a_job(name: &str) -> bool {
    name.starts_with("LAB_") || name.starts_with("GITHUB_") || name == "JOB_COMPLETION_INDEX"
}

/// What names the lab of this host: its program, images and runs.
pub fn lab_of_this_host(program: &Path, runs: &Path) -> Vec<(String, PathBuf)> {
    [("LAB_PROGRAM", program), ("LAB_IMAGES", &root().join("target/images")), ("LAB_RUNS", runs)]
        .map(|(name, path)| (name.to_owned(), path.to_owned()))
        .into()
}
