//! The Kubernetes manifests: read by the types of the API, and held against what a scenario needs.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, Container, PersistentVolumeClaim},
    },
    apimachinery::pkg::api::resource::Quantity,
};
use lab::{
    scenario::{self, Scenario},
    session::OVERHEAD_PER_NODE_MIB,
};
use lab_model::{Size, events::ShardNumber};
use lab_vm::host::HOST_RESERVE_MIB;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{files, root};

enum Manifest {
    Job(Box<Job>),
    Claim(Box<PersistentVolumeClaim>),
    Settings(Box<ConfigMap>),
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

fn parse(text: &str) -> Result<Vec<Manifest>> {
    let read = |document| -> Result<Manifest> {
        let value = Value::deserialize(document)?;
        Ok(match (value["apiVersion"].as_str(), value["kind"].as_str()) {
            (Some("batch/v1"), Some("Job")) => Manifest::Job(Box::new(known(&value)?)),
            (Some("v1"), Some("PersistentVolumeClaim")) => Manifest::Claim(Box::new(known(&value)?)),
            (Some("v1"), Some("ConfigMap")) => Manifest::Settings(Box::new(known(&value)?)),
            other => bail!("{other:?} is nothing that is expected here"),
        })
    };
    serde_yaml::Deserializer::from_str(text).map(read).collect()
}

/// What `deploy/kubernetes/jobs` prints.
fn printed(what: &str, image: &str) -> Result<String> {
    let script = root().join("deploy/kubernetes/jobs");
    let output = Command::new(script).args([what, image]).output().context("deploy/kubernetes/jobs")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The Jobs as they are printed, and what is applied as it stands.
fn manifests() -> Result<Vec<Manifest>> {
    let mut all = parse(&printed("shards", "lab:v1")?)?;
    all.extend(parse(&printed("merge", "lab:v1")?)?);
    for name in ["settings", "results"] {
        let path = format!("deploy/kubernetes/{name}.yaml");
        all.extend(parse(&fs::read_to_string(root().join(&path))?).context(path)?);
    }
    Ok(all)
}

fn jobs() -> Result<Vec<Job>> {
    let jobs = manifests()?.into_iter().filter_map(|manifest| match manifest {
        Manifest::Job(job) => Some(*job),
        _ => None,
    });
    Ok(jobs.collect())
}

fn shards() -> Result<Vec<Job>> {
    let mut jobs = jobs()?;
    jobs.retain(|job| job.metadata.name.as_deref().is_some_and(|name| name.starts_with("lab-shard-")));
    Ok(jobs)
}

fn container(job: &Job) -> Result<&Container> {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).context("a pod")?;
    let [container] = pod.containers.as_slice() else { bail!("more than one container") };
    Ok(container)
}

fn variable<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.env.iter().flatten().find(|variable| variable.name == name)?.value.as_deref()
}

/// Every scenario of the lab, in order.
fn scenarios() -> Result<Vec<Scenario>> {
    let names = files()?.into_iter().filter(|name| name.starts_with("scenarios/") && name.ends_with(".yaml"));
    names.map(|name| Ok(scenario::load(&root().join(name))?)).collect()
}

#[test]
fn every_manifest_is_an_object_of_the_api_without_a_field_too_many() -> Result<()> {
    let (mut claims, mut settings) = (0, 0);
    for manifest in manifests()? {
        match manifest {
            Manifest::Claim(_) => claims += 1,
            Manifest::Settings(_) => settings += 1,
            Manifest::Job(_) => {}
        }
    }
    assert_eq!((jobs()?.len(), claims, settings), (shards()?.len() + 1, 1, 1));
    let text = printed("merge", "lab:v1")?;
    for (right, wrong) in [
        ("backoffLimit", "backofLimit"),
        ("drop: [ALL]", "dropped: [ALL]"),
        ("mountPath: /tmp", "mountPth: /tmp"),
    ] {
        let error =
            parse(&text.replace(right, wrong)).err().map(|error| format!("{error:#}")).unwrap_or_default();
        let word = wrong.split(':').next().unwrap_or_default();
        let missing = error.contains("missing field");
        assert!(missing || error.contains(&format!(".{word} is no field")), "{wrong}: {error}");
    }
    Ok(())
}

#[test]
fn there_is_a_shard_for_each_scenario() -> Result<()> {
    let shards = shards()?;
    let names: Vec<_> = scenarios()?.into_iter().map(|scenario| scenario.name).collect();
    assert_eq!(shards.len(), names.len(), "a Job for each scenario");
    let mut run = Vec::new();
    for (number, job) in (1..).zip(&shards) {
        let shard = variable(container(job)?, "LAB_SHARD").context("LAB_SHARD")?;
        assert_eq!(shard, format!("{number}/{}", shards.len()));
        let picked = shard.parse::<ShardNumber>()?.picks(&names);
        assert_eq!(picked.len(), 1);
        run.extend(picked.into_iter().map(|at| names[at].clone()));
        assert_eq!(
            variable(container(job)?, "LAB_REPORT"),
            Some(format!("/results/shard-{number}").as_str())
        );
        assert_eq!(job.metadata.name, Some(format!("lab-shard-{number}")));
        assert_eq!(container(job)?.image.as_deref(), Some("lab:v1"));
    }
    run.sort();
    let mut names = names;
    names.sort();
    assert_eq!(run, names);
    for refused in ["", "lab:v1; reboot", "a b"] {
        assert!(printed("shards", refused).is_err(), "{refused}");
    }
    assert!(printed("others", "lab:v1").is_err());
    Ok(())
}

#[test]
fn a_shard_asks_for_the_memory_that_its_scenario_reserves() -> Result<()> {
    let needed = scenarios()?
        .iter()
        .map(|scenario| {
            let nodes = scenario.cluster.nodes.len() as u64;
            scenario.cluster.total_memory().as_mib() + OVERHEAD_PER_NODE_MIB * nodes + HOST_RESERVE_MIB
        })
        .max()
        .context("scenarios")?;
    for job in shards()? {
        let resources = container(&job)?.resources.clone().context("resources")?;
        let of = |quantities: Option<std::collections::BTreeMap<String, Quantity>>| -> Result<u64> {
            let text = quantities.and_then(|mut all| all.remove("memory")).context("memory")?.0;
            Ok(text.replace("Gi", "GiB").parse::<Size>()?.as_mib())
        };
        let (request, limit) = (of(resources.requests)?, of(resources.limits)?);
        ensure!(request >= needed, "{request} MiB are requested and {needed} MiB are reserved");
        ensure!(request < needed + 1024, "{request} MiB are requested, but {needed} MiB are enough");
        assert_eq!(request, limit);
    }
    Ok(())
}

#[test]
fn jobs_run_scripts_of_the_image_as_an_ordinary_user_and_keep_their_results() -> Result<()> {
    let claims: Vec<_> = manifests()?
        .into_iter()
        .filter_map(|manifest| match manifest {
            Manifest::Claim(claim) => claim.metadata.name,
            _ => None,
        })
        .collect();
    for job in jobs()? {
        let container = container(&job)?;
        let command = container.command.as_ref().and_then(|words| words.first()).context("a command")?;
        assert!(root().join(command).is_file(), "there is no {command}");
        let image = container.image.as_deref().context("an image")?;
        assert!(!image.contains('/'), "{image}: whose registry is that?");
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).context("a pod")?;
        let user = pod.security_context.as_ref().context("a security context")?;
        assert_eq!((user.run_as_non_root, user.run_as_user), (Some(true), Some(1000)));
        let own = container.security_context.as_ref().context("a security context")?;
        assert_eq!(own.allow_privilege_escalation, Some(false));
        let mounts = container.volume_mounts.iter().flatten();
        for mount in mounts {
            let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name);
            let volume = volume.with_context(|| format!("no volume is called {}", mount.name))?;
            if let Some(claim) = &volume.persistent_volume_claim {
                assert!(claims.contains(&claim.claim_name), "no claim names {}", claim.claim_name);
                let report = variable(container, "LAB_REPORT").context("LAB_REPORT")?;
                assert!(Path::new(report).starts_with(&mount.mount_path), "{report} is lost");
            }
        }
    }
    Ok(())
}

#[test]
fn settings_are_variables_of_the_scripts() -> Result<()> {
    let scripts: String = ["common", "run"]
        .iter()
        .map(|name| fs::read_to_string(root().join("scripts/ci").join(name)))
        .collect::<Result<_, _>>()?;
    for manifest in manifests()? {
        let Manifest::Settings(settings) = manifest else { continue };
        for name in settings.data.iter().flatten().map(|(name, _)| name) {
            assert!(scripts.contains(&format!("${{{name}:")), "no script reads {name}");
        }
    }
    Ok(())
}
