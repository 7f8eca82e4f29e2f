//! What kustomize makes of `deploy/kubernetes`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Container, PersistentVolumeClaim, PodSpec},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::root;

/// The end of an overlay that changes the number of shards.
pub const COUNTED: &str = "transformers: [../../count]\n";

/// Renders a kustomization.
pub fn render(directory: &Path) -> Result<String> {
    let output = Command::new("go")
        .args(["tool", "kustomize", "build"])
        .arg(directory)
        .current_dir(root().join("tools/kustomize"))
        .output()
        .context("running kustomize with Go")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kustomize build {}: {error}", directory.display());
    Ok(String::from_utf8(output.stdout)?)
}

/// The documents of a text, as they are.
pub fn documents(text: &str) -> Result<Vec<Value>> {
    serde_yaml::Deserializer::from_str(text).map(|document| Ok(Value::deserialize(document)?)).collect()
}

/// A copy of `deploy/kubernetes` with releases of a test beside the example.
pub struct Fleet {
    directory: tempfile::TempDir,
}

impl Fleet {
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let from = root().join("deploy/kubernetes");
        for entry in walkdir::WalkDir::new(&from) {
            let entry = entry?;
            let to = directory.path().join(entry.path().strip_prefix(&from)?);
            if entry.file_type().is_dir() {
                fs::create_dir_all(to)?;
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
        Ok(Self { directory })
    }

    /// The directory of a part, such as `base`.
    pub fn part(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a release with the base as its resource and `rest` as the rest of its kustomization.
    pub fn release(&self, name: &str, rest: &str) -> Result<PathBuf> {
        let directory = self.part(&format!("releases/{name}"));
        fs::create_dir_all(&directory)?;
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base]\n{rest}"
        );
        fs::write(directory.join("kustomization.yaml"), text)?;
        Ok(directory)
    }
}

/// The part of an overlay that sets the number of shards.
pub fn shards_of(count: u32) -> String {
    format!(
        "patches:\n  - target: {{ kind: Job, name: lab-shards }}\n    patch: |\n      - op: replace\n        path: /spec/completions\n        value: {count}\n"
    )
}

/// The objects of a release, read by the types of the API.
pub struct Release {
    pub shards: Job,
    pub merge: Job,
    pub claim: PersistentVolumeClaim,
    pub settings: ConfigMap,
}

impl Release {
    pub fn rendered(directory: &Path) -> Result<Self> {
        Self::read(&render(directory)?)
    }

    pub fn read(text: &str) -> Result<Self> {
        let (mut jobs, mut claims, mut settings) = (Vec::<Job>::new(), Vec::new(), Vec::new());
        for value in documents(text)? {
            match (value["apiVersion"].as_str(), value["kind"].as_str()) {
                (Some("batch/v1"), Some("Job")) => jobs.push(known(&value)?),
                (Some("v1"), Some("PersistentVolumeClaim")) => claims.push(known(&value)?),
                (Some("v1"), Some("ConfigMap")) => settings.push(known(&value)?),
                other => bail!("{other:?} is nothing that is expected here"),
            }
        }
        let is_of =
            |job: &Job, name: &str| job.metadata.name.as_deref().is_some_and(|whole| whole.ends_with(name));
        let merge = jobs.iter().position(|job| is_of(job, "lab-merge")).context("no lab-merge")?;
        let merge = jobs.remove(merge);
        let [shards] =
            <[_; 1]>::try_from(jobs).map_err(|jobs| anyhow::anyhow!("{} more Jobs", jobs.len()))?;
        ensure!(is_of(&shards, "lab-shards"), "{:?}", shards.metadata.name);
        let [claim] = <[_; 1]>::try_from(claims).ok().context("one claim")?;
        let [settings] = <[_; 1]>::try_from(settings).ok().context("one ConfigMap")?;
        Ok(Self { shards, merge, claim, settings })
    }

    /// The names of all objects.
    pub fn names(&self) -> Vec<String> {
        let all =
            [&self.shards.metadata, &self.merge.metadata, &self.claim.metadata, &self.settings.metadata];
        all.into_iter().filter_map(|metadata| metadata.name.clone()).collect()
    }
}

pub fn pod(job: &Job) -> Result<&PodSpec> {
    job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).context("a pod")
}

pub fn container(job: &Job) -> Result<&Container> {
    let [container] = pod(job)?.containers.as_slice() else { bail!("more than one container") };
    Ok(container)
}

pub fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|variable| variable.name == name)?.value.as_deref()
}

/// Reads an object as its type has it. The types drop what they do not know, so what is left out when it is written
/// again was no field.
fn known<T: DeserializeOwned + Serialize>(value: &Value) -> Result<T> {
    let object: T = serde_json::from_value(value.clone())?;
    let again = serde_json::to_value(&object)?;
    if let Some(path) = lost(value, &again, "") {
        bail!("{path} is no field of the API, or not of this kind");
    }
    Ok(object)
}

/// The path of the first thing of `before` that is not in `after`.
fn lost(before: &Value, after: &Value, path: &str) -> Option<String> {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => before.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match after.get(key) {
                // What is empty may be left out.
                None if value.as_object().is_some_and(|object| object.is_empty()) => None,
                None => Some(path),
                Some(after) => lost(value, after, &path),
            }
        }),
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => before
            .iter()
            .zip(after)
            .enumerate()
            .find_map(|(n, (before, after))| lost(before, after, &format!("{path}[{n}]"))),
        _ => (before != after).then(|| path.to_owned()),
    }
}
