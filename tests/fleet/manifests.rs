//! The rendered manifests: read by the types of the API, and held against what a scenario needs.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::batch::v1::Job, apimachinery::pkg::api::resource::Quantity};
use lab::{
    scenario::{self, Scenario},
    session::OVERHEAD_PER_NODE_MIB,
};
use lab_model::{Size, events::ShardNumber};
use lab_vm::host::HOST_RESERVE_MIB;

use super::{
    rendered::{COUNTED, Fleet, Release, container, pod, render, shards_of, variable},
    root,
};

/// Cores that a shard requests: one for each node that forms and one for the lab.
const CORES: u64 = 4;

fn base() -> Result<Release> {
    Release::rendered(&root().join("deploy/kubernetes/base"))
}

fn example() -> Result<Release> {
    Release::rendered(&root().join("deploy/kubernetes/releases/example"))
}

/// Every scenario of the lab, in order.
fn scenarios() -> Result<Vec<Scenario>> {
    let directory = fs::read_dir(root().join("scenarios"))?;
    let mut files: Vec<_> = directory.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.iter().map(|file| Ok(scenario::load(file)?)).collect()
}

/// Says what is wrong with the numbers of shards in a Job.
fn counted(job: &Job) -> Result<i32> {
    let spec = job.spec.as_ref().context("a specification")?;
    let completions = spec.completions.context("completions")?;
    ensure!(spec.parallelism == Some(completions), "{:?} of {completions} run at once", spec.parallelism);
    let told = variable(container(job)?, "LAB_SHARDS");
    ensure!(
        told == Some(completions.to_string().as_str()),
        "{completions} shards, and LAB_SHARDS is {told:?}"
    );
    Ok(completions)
}

#[test]
fn what_is_rendered_are_objects_of_the_api_without_a_field_too_many() -> Result<()> {
    let text = render(&root().join("deploy/kubernetes/releases/example"))?;
    Release::read(&text)?;
    for (right, wrong) in [
        ("backoffLimitPerIndex", "backofLimitPerIndex"),
        ("podReplacementPolicy", "podReplacmentPolicy"),
        ("- ALL", "- [ALL]"),
        ("mountPath: /tmp", "mountPth: /tmp"),
    ] {
        ensure!(text.contains(right), "{right} is not in the manifests");
        let error = Release::read(&text.replace(right, wrong)).err();
        ensure!(error.is_some(), "{wrong} is read");
    }
    Ok(())
}

#[test]
fn a_release_has_one_number_of_shards() -> Result<()> {
    let fleet = Fleet::new()?;
    ensure!(counted(&base()?.shards)? == i32::try_from(scenarios()?.len())?, "a shard for each scenario");
    ensure!(counted(&example()?.shards)? == 4);
    let three = fleet.release("three", &format!("namePrefix: a-\n{}{COUNTED}", shards_of(3)))?;
    ensure!(counted(&Release::rendered(&three)?.shards)? == 3);
    // The transformer of the base ran before the patch of this one.
    let uncounted = fleet.release("uncounted", &shards_of(3))?;
    let error = counted(&Release::rendered(&uncounted)?.shards).expect_err("the numbers differ").to_string();
    ensure!(error.contains("run at once"), "{error}");
    Ok(())
}

#[test]
fn the_shards_of_the_base_run_each_scenario_once() -> Result<()> {
    let names: Vec<_> = scenarios()?.into_iter().map(|scenario| scenario.name).collect();
    let count = u32::try_from(counted(&base()?.shards)?)?;
    let mut run = Vec::new();
    for index in 0..count {
        let picked = ShardNumber::new(index + 1, count).context("a shard")?.picks(&names);
        ensure!(picked.len() == 1, "shard {index} has {picked:?}");
        run.extend(picked);
    }
    run.sort_unstable();
    ensure!(run == (0..names.len()).collect::<Vec<_>>(), "{run:?}");
    Ok(())
}

#[test]
fn a_verdict_is_not_retried_and_a_disruption_is() -> Result<()> {
    let release = base()?;
    let spec = release.shards.spec.context("a specification")?;
    ensure!(spec.completion_mode.as_deref() == Some("Indexed"));
    ensure!(spec.backoff_limit_per_index == Some(0) && spec.max_failed_indexes.is_none());
    // Two pods of one index would write the same directory.
    ensure!(spec.pod_replacement_policy.as_deref() == Some("Failed"));
    let rules = spec.pod_failure_policy.context("a policy")?.rules;
    let [rule] = rules.as_slice() else { anyhow::bail!("{rules:?}") };
    let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let told: Vec<_> = conditions.iter().map(|on| (on.type_.as_str(), on.status.as_str())).collect();
    ensure!(
        rule.action == "Ignore" && rule.on_exit_codes.is_none() && told == [("DisruptionTarget", "True")]
    );
    ensure!(
        release.merge.spec.context("a specification")?.suspend == Some(true),
        "the merge waits for a person"
    );
    Ok(())
}

#[test]
fn releases_beside_each_other_share_no_object() -> Result<()> {
    let fleet = Fleet::new()?;
    let settings = |tag: &str| {
        format!(
            "namePrefix: {tag}-\nconfigMapGenerator:\n  - name: lab-settings\n    behavior: merge\n    literals: [LAB_COMPUTE=images/compute:{tag}]\n"
        )
    };
    let releases =
        ["a", "b"].map(|tag| -> Result<Release> { Release::rendered(&fleet.release(tag, &settings(tag))?) });
    let [a, b] = releases;
    let (a, b) = (a?, b?);
    ensure!(
        a.names().len() == 4 && a.names().iter().all(|name| !b.names().contains(name)),
        "{:?}",
        a.names()
    );
    for release in [&a, &b] {
        let pod = pod(&release.shards)?;
        let volumes = pod.volumes.iter().flatten();
        let claims: Vec<_> = volumes
            .filter_map(|volume| volume.persistent_volume_claim.as_ref())
            .map(|claim| Some(claim.claim_name.clone()))
            .collect();
        ensure!(claims == [release.claim.metadata.name.clone()], "{claims:?}");
        let sources = container(&release.shards)?.env_from.iter().flatten();
        let settings: Vec<_> = sources
            .filter_map(|source| source.config_map_ref.as_ref())
            .map(|reference| Some(reference.name.clone()))
            .collect();
        ensure!(settings == [release.settings.metadata.name.clone()], "{settings:?}");
    }
    let all = fleet.part("releases/all");
    fs::create_dir(&all)?;
    fs::write(all.join("kustomization.yaml"), "resources: [../a, ../b, ../example]\n")?;
    ensure!(render(&all)?.matches("kind: Job").count() == 6);
    Ok(())
}

#[test]
fn a_shard_asks_for_what_its_scenario_reserves() -> Result<()> {
    let needed = scenarios()?
        .iter()
        .map(|scenario| {
            let nodes = scenario.cluster.nodes.len() as u64;
            let memory =
                scenario.cluster.total_memory().as_mib() + OVERHEAD_PER_NODE_MIB * nodes + HOST_RESERVE_MIB;
            (memory, nodes)
        })
        .reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)));
    let (memory, nodes) = needed.context("scenarios")?;
    let resources = container(&base()?.shards)?.resources.clone().context("resources")?;
    let of = |quantities: &Option<BTreeMap<String, Quantity>>, name: &str| -> Result<String> {
        let quantity = quantities.as_ref().and_then(|all| all.get(name));
        Ok(quantity.with_context(|| format!("no {name}"))?.0.clone())
    };
    let mib = |text: String| -> Result<u64> { Ok(text.replace("Gi", "GiB").parse::<Size>()?.as_mib()) };
    let (request, limit) = (mib(of(&resources.requests, "memory")?)?, mib(of(&resources.limits, "memory")?)?);
    ensure!(request >= memory, "{request} MiB are requested and {memory} MiB are reserved");
    ensure!(request < memory + 1024, "{request} MiB are requested, but {memory} MiB are enough");
    ensure!(request == limit, "{request} MiB are requested and {limit} MiB are allowed");
    let cores: u64 = of(&resources.requests, "cpu")?.parse()?;
    ensure!(cores == CORES && nodes < CORES, "{cores} cores for {nodes} nodes and the lab");
    Ok(())
}

#[test]
fn jobs_run_scripts_of_the_image_as_an_ordinary_user_and_keep_their_results() -> Result<()> {
    let release = example()?;
    for job in [&release.shards, &release.merge] {
        let (container, pod) = (container(job)?, pod(job)?);
        let command = container.command.as_ref().and_then(|words| words.first()).context("a command")?;
        ensure!(root().join(command).is_file(), "there is no {command}");
        ensure!(container.image.as_deref() == Some("registry.example/you/lab:v1"), "{:?}", container.image);
        let user = pod.security_context.as_ref().context("a security context")?;
        ensure!((user.run_as_non_root, user.run_as_user) == (Some(true), Some(1000)));
        let own = container.security_context.as_ref().context("a security context")?;
        ensure!(own.allow_privilege_escalation == Some(false));
        let mut kept = false;
        for mount in container.volume_mounts.iter().flatten() {
            let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name);
            let volume = volume.with_context(|| format!("no volume is called {}", mount.name))?;
            let places = ["LAB_RESULTS", "LAB_REPORT"].map(|name| variable(container, name));
            kept |= volume.persistent_volume_claim.is_some()
                && places.into_iter().flatten().any(|place| Path::new(place).starts_with(&mount.mount_path));
        }
        ensure!(kept, "the results of {:?} are lost", job.metadata.name);
    }
    Ok(())
}

#[test]
fn settings_are_variables_of_the_scripts() -> Result<()> {
    let scripts: String = ["common", "run", "indexed"]
        .iter()
        .map(|name| fs::read_to_string(root().join("scripts/ci").join(name)))
        .collect::<Result<_, _>>()?;
    let release = base()?;
    let container = container(&release.shards)?;
    let own = container.env.iter().flatten().map(|variable| variable.name.as_str());
    let settings = release.settings.data.iter().flatten().map(|(name, _)| name.as_str());
    for name in own.chain(settings).filter(|name| name.starts_with("LAB_")) {
        ensure!(scripts.contains(&format!("${{{name}:")), "no script reads {name}");
    }
    Ok(())
}

#[test]
fn a_queue_and_kvm_are_components_of_the_shards_alone() -> Result<()> {
    const QUEUE: &str = "kueue.x-k8s.io/queue-name";
    let fleet = Fleet::new()?;
    let both = "namePrefix: q-\ncomponents: [../../components/kueue, ../../components/kvm]\n";
    let release = Release::rendered(&fleet.release("queued", &format!("{both}{}{COUNTED}", shards_of(2)))?)?;
    ensure!(counted(&release.shards)? == 2);
    let queue = |job: &Job| job.metadata.labels.clone().unwrap_or_default().remove(QUEUE);
    ensure!(queue(&release.shards).as_deref() == Some("lab") && queue(&release.merge).is_none());
    // Kueue starts what is suspended, and nothing else does.
    ensure!(release.shards.spec.as_ref().and_then(|spec| spec.suspend) == Some(true));
    let limits = container(&release.shards)?.resources.clone().and_then(|resources| resources.limits);
    ensure!(limits.context("limits")?.contains_key("devices.kubevirt.io/kvm"));
    let selector = pod(&release.shards)?.node_selector.clone().context("a selector")?;
    ensure!(selector.get("kubernetes.io/arch").map(String::as_str) == Some("arm64"));
    ensure!(base()?.shards.spec.and_then(|spec| spec.suspend).is_none() && queue(&base()?.shards).is_none());
    Ok(())
}
