//! What a real API server says to the rendered manifests, and a shard as its pod runs it.

use std::{path::PathBuf, process::Output};

use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use lab::experiment::Lab;
use lab_model::events::Outcome;
use lab_plan::cluster::ClusterSpec;
use lab_report::{Recording, Report, Signatures};
use serde_json::{Value, json};

use super::{
    pod::{Volume, lab_of_this_host},
    rendered::{COUNTED, Fleet, Release, documents, render, shards_of},
    root,
    support::{options, turn},
};

#[tokio::test]
#[ignore = "long: forms a cluster to ask its API server; `make test-long` runs it"]
async fn an_api_server_accepts_every_manifest_and_no_wrong_one() -> Result<()> {
    let manifests = manifests()?;
    let _turn = turn(1).await?;
    let lab = Lab::open(options("fleet")).await?;
    let asked = async {
        let cluster = lab.form(ClusterSpec::of_compute_nodes("fleet".parse()?, 1, 0)?).await?;
        let asked = asked(&cluster.kubernetes().client(), &manifests).await;
        cluster.shut_down().await;
        asked
    };
    let result = asked.await;
    let outcome = match &result {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed { cause: format!("{error:#}") },
    };
    lab.close(outcome).await?;
    result
}

/// Every object of the base, of the example and of a release with all components.
fn manifests() -> Result<Vec<Value>> {
    let fleet = Fleet::new()?;
    let all = "namePrefix: all-\ncomponents: [../../components/kueue, ../../components/kvm]\n";
    let all = fleet.release("all", &format!("{all}{}{COUNTED}", shards_of(3)))?;
    let deploy = root().join("deploy/kubernetes");
    let mut manifests = Vec::new();
    for directory in [deploy.join("base"), deploy.join("releases/example"), all] {
        manifests.extend(documents(&render(&directory)?)?);
    }
    ensure!(manifests.len() == 12, "{} objects", manifests.len());
    Ok(manifests)
}

async fn asked(client: &Client, manifests: &[Value]) -> Result<()> {
    for manifest in manifests {
        let what = format!("{} {}", manifest["kind"], manifest["metadata"]["name"]);
        let answer = dry_run(client, manifest).await.with_context(|| what.clone())?;
        println!("accepted: {what}");
        ensure!(answer.metadata.uid.is_some(), "{what} would not be created");
    }
    let shards = manifests.iter().find(|manifest| manifest["metadata"]["name"] == "lab-shards");
    let shards = shards.context("the shards of the base")?;
    let wrong: [(&str, Value, &str); 5] = [
        ("/spec/completionsMode", json!("Indexed"), "completionsMode"),
        ("/spec/template/spec/containers/0/resource", json!({}), "resource"),
        // An index needs a Job that has indexes.
        ("/spec/completionMode", json!("NonIndexed"), "backoffLimitPerIndex"),
        ("/spec/backoffLimitPerIndex", json!(-1), "backoffLimitPerIndex"),
        ("/spec/podReplacementPolicy", json!("TerminatingOrFailed"), "podReplacementPolicy"),
    ];
    for (path, value, told) in wrong {
        let error = dry_run(client, &with(shards, path, value)?).await.err();
        let error = error.with_context(|| format!("{path} was accepted"))?.to_string();
        println!("refused: {path}: {error}");
        ensure!(error.contains(told), "{path}: {error}");
    }
    Ok(())
}

/// A server-side apply that changes nothing, in which every field must be known.
async fn dry_run(client: &Client, manifest: &Value) -> Result<DynamicObject, kube::Error> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&manifest["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = GroupVersionKind::gvk(group, version, &text(&manifest["kind"]));
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "default", &ApiResource::from_gvk(&kind));
    let params = PatchParams::apply("lab-fleet").dry_run().validation_strict();
    api.patch(&text(&manifest["metadata"]["name"]), &params, &Patch::Apply(manifest)).await
}

/// A manifest with one value set.
fn with(manifest: &Value, path: &str, value: Value) -> Result<Value> {
    let mut manifest = manifest.clone();
    let (parent, key) = path.rsplit_once('/').context("a path")?;
    let parent = manifest.pointer_mut(parent).and_then(Value::as_object_mut).context("no such object")?;
    parent.insert(key.to_owned(), value);
    Ok(manifest)
}

/// The pod of index 0 of a release with one shard, which is also the one that ends last.
#[tokio::test]
#[ignore = "long: forms the cluster of scenario 01 as a shard; `make test-long` runs it"]
async fn a_shard_as_its_pod_runs_it_is_merged_to_a_verdict() -> Result<()> {
    let fleet = Fleet::new()?;
    let settings = "configMapGenerator:\n  - name: lab-settings\n    behavior: merge\n    literals: [LAB_SCENARIOS=01]\n";
    let release = Release::rendered(&fleet.release("one", &format!("{settings}{}{COUNTED}", shards_of(1)))?)?;
    let _turn = turn(3).await?;
    let directory = tempfile::tempdir()?;
    let results = directory.path().join("results");
    std::fs::create_dir(&results)?;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_lab"));
    let host = lab_of_this_host(&program, &root().join("target/lab"));
    let volume =
        Volume { results: results.clone(), uid: "0b9c7f2e-0000-4000-8000-000000000001".into(), host };

    let mut shard = volume.shard(&release, 0)?;
    let shard = tokio::task::spawn_blocking(move || shard.output()).await??;
    println!("{}", said(&shard));
    ensure!(shard.status.success() && said(&shard).contains("all 1 shards: passed"), "{:?}", shard.status);
    let merged = || -> Result<bool> {
        let recording = Recording::of_run(&results.join("merged"))?;
        Ok(Report::of(&recording, &Signatures::own()).summary.passed())
    };
    ensure!(merged()? && results.join("merged/report.html").is_file());

    // The Job that merges comes to the same, and misses a shard that is lost.
    let again = volume.merge(&release)?.output()?;
    ensure!(again.status.success() && merged()?, "{}", said(&again));
    std::fs::rename(results.join("shard-1"), directory.path().join("lost"))?;
    let lost = volume.merge(&release)?.output()?;
    ensure!(lost.status.code() == Some(2) && said(&lost).contains("did the shards run?"), "{}", said(&lost));
    Ok(())
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}
