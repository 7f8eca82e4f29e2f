//! The composite action: its file, and its steps from a clean checkout.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use super::{
    clean_copy,
    expression::{expressions, paths},
    files, root,
    runner::{Action, Origin, Ran, Runner},
    shellcheck,
};

/// Scenarios that end before anything boots, so that these tests need no VM.
const WITHOUT_VM: [&str; 2] =
    ["tests/scenarios/host-memory.yaml", "tests/scenarios/roles/compute-image-as-gateway.yaml"];

#[test]
fn every_expression_names_what_is_there_and_every_input_is_used() -> Result<()> {
    let action = Action::read(root())?;
    assert_eq!(action.runs.using, "composite");
    let given = [
        "github.action_path",
        "github.action_repository",
        "github.action_ref",
        "github.server_url",
        "runner.temp",
    ];
    let (mut used, mut seen) = (Vec::new(), given.map(str::to_owned).to_vec());
    seen.extend(action.inputs.keys().map(|name| format!("inputs.{name}")));
    for step in &action.runs.steps {
        let condition = step.condition.as_deref().unwrap_or_default();
        let texts = step.with.values().chain(step.env.values()).chain(&step.run);
        let named = texts.flat_map(|text| expressions(text)).flat_map(paths).chain(paths(condition));
        for path in named {
            let known =
                seen.iter().any(|known| path == *known || known.ends_with('.') && path.starts_with(known));
            ensure!(known, "step \"{}\" names {path}, which is nothing or not there yet", step.name);
            used.push(path);
        }
        ensure!(
            !step.run.as_ref().is_some_and(|run| run.contains("${{")),
            "{}: an input in a script",
            step.name
        );
        seen.extend(step.id.iter().map(|id| format!("steps.{id}.outputs.")));
    }
    for (name, input) in &action.inputs {
        assert!(used.contains(&format!("inputs.{name}")), "no step uses the input {name}");
        assert!(!input.description.is_empty());
    }
    for output in action.outputs.values() {
        assert!(!output.description.is_empty() && output.value.starts_with("${{"));
    }
    Ok(())
}

#[test]
fn every_step_calls_scripts_that_are_there_and_pass_shellcheck() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let files = files()?;
    let action = Action::read(root())?;
    for step in &action.runs.steps {
        let Some(run) = &step.run else {
            assert!(step.uses.is_some(), "{} does nothing", step.name);
            continue;
        };
        assert_eq!(step.shell.as_deref(), Some("bash"), "{}", step.name);
        let script = run.trim_matches('"').strip_prefix("$GITHUB_ACTION_PATH/").context("its own script")?;
        assert!(files.iter().any(|file| file == script), "{}: there is no {script}", step.name);
        let mode = fs::metadata(root().join(script))?.permissions().mode();
        assert!(mode & 0o111 != 0, "{script} is not executable");
        assert_eq!(shellcheck(run)?, "", "{}", step.name);
    }
    // It does find something.
    assert!(shellcheck("echo $x")?.contains("SC2154"));
    Ok(())
}

/// Saved clusters and runs hold keys, and everybody who can read the repository can read its caches.
#[test]
fn no_cache_of_the_action_has_the_secrets_of_a_cluster() -> Result<()> {
    let action = Action::read(root())?;
    let secret = ["target/lab/cache/warm/key/cp-1.memory", "target/lab/a-run/kubeconfig"].map(PathBuf::from);
    let mut cached = Vec::new();
    for step in
        action.runs.steps.iter().filter(|step| step.uses.as_ref().is_some_and(|uses| uses.contains("cache")))
    {
        let paths = step.with.get("path").with_context(|| format!("{} caches nothing", step.name))?;
        cached.extend(
            paths.lines().map(|path| path.trim().trim_start_matches("${{ github.action_path }}/").to_owned()),
        );
    }
    ensure!(cached.iter().any(|path| path.starts_with("target/lab/cache/")), "{cached:?}");
    let leaks = |path: &&String| secret.iter().any(|secret| secret.starts_with(path.as_str()));
    assert_eq!(cached.iter().find(leaks), None);
    Ok(())
}

/// A checkout of the action, and an empty repository that calls it.
pub struct Caller {
    _directory: tempfile::TempDir,
    pub runner: Runner,
}

impl Caller {
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let [action, workspace, temp] =
            ["action", "workspace", "temp"].map(|name| directory.path().join(name));
        for path in [&action, &workspace, &temp] {
            fs::create_dir(path)?;
        }
        clean_copy(&action)?;
        Ok(Self {
            _directory: directory,
            runner: Runner { action, workspace, temp, origin: Origin::default() },
        })
    }

    /// With the command of this build, and the images that are built for all tests.
    fn run(&self, inputs: &[(&str, &str)]) -> Result<Ran> {
        let images = images()?.display().to_string();
        let built = [("program", env!("CARGO_BIN_EXE_lab")), ("images", &images)];
        self.runner.run(&[&built, inputs].concat())
    }
}

pub fn images() -> Result<PathBuf> {
    let images = root().join("target/images");
    ensure!(images.join("workloads/index.json").is_file(), "build the images first (make images)");
    Ok(images)
}

pub fn names(ran: &Ran) -> Vec<&str> {
    ran.steps.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn without_booting_the_images_and_configs_are_checked() -> Result<()> {
    let caller = Caller::new()?;
    let ran = caller.run(&[("boot", "false")])?;
    assert_eq!(ran.verdict(), "passed", "{}", ran.log);
    assert_eq!(names(&ran), ["Set up", "Name the caches", "Build", "Check images and configs"]);
    assert!(ran.summary.contains("### Node images"), "{}", ran.summary);

    fs::write(caller.runner.workspace.join("good.yaml"), "machine: { network: { hostname: a } }\n")?;
    fs::write(caller.runner.workspace.join("bad.yaml"), "machine: { netwrok: { hostname: a } }\n")?;
    let ran = caller.run(&[("boot", "false"), ("configs", " good.yaml "), ("talos-version", "v1.11.5")])?;
    assert_eq!(ran.verdict(), "passed", "{}", ran.log);
    let ran = caller.run(&[("boot", "false"), ("configs", "good.yaml\nbad.yaml\n")])?;
    assert_eq!(ran.verdict(), "failed", "{}", ran.log);
    assert!(
        ran.summary.contains("### Machine configs") && ran.summary.contains("netwrok"),
        "{}",
        ran.summary
    );
    Ok(())
}

#[test]
fn a_pair_that_does_not_fit_is_refused_before_anything_runs() -> Result<()> {
    let compute = images()?.join("compute").display().to_string();
    let ran = Caller::new()?.run(&[("compute", &compute), ("gateway", &compute)])?;
    assert_eq!(ran.verdict(), "failed", "{}", ran.log);
    assert!(!names(&ran).contains(&"Form clusters"), "{:?}", ran.steps);
    Ok(())
}

#[test]
fn a_release_is_gated_without_a_boot_and_without_the_reference_node() -> Result<()> {
    let caller = Caller::new()?;
    let image = images()?.join("compute");
    let release = |extensions: &str| {
        let text = format!(
            "release: v1\nroles: {{ compute: {{ extensions: [{extensions}] }} }}\nnodes: [{{ role: compute, image: '{}' }}]\n\
             accept: [{{ rule: containerd-sections, where: 10-spin.part, because: the agent translates it }}]\n",
            image.display()
        );
        fs::write(caller.runner.workspace.join("release.yaml"), text)
    };
    release("drbd, spin")?;
    let ran = caller.run(&[("boot", "false"), ("gate", "release.yaml")])?;
    assert_eq!(ran.verdict(), "passed", "{}", ran.log);
    assert_eq!(names(&ran), ["Set up", "Name the caches", "Build", "Check the release"]);
    assert!(ran.summary.contains("### Ledger of v1"), "{}", ran.summary);
    let ledger = ran.outputs["ledger"].clone();
    assert!(PathBuf::from(&ledger).is_file());
    let before = caller.runner.workspace.join("before.json");
    fs::rename(&ledger, &before)?;

    release("drbd, spin, zfs")?;
    let inputs = [("boot", "false"), ("gate", "release.yaml"), ("gate-against", "before.json")];
    let ran = caller.run(&inputs)?;
    assert_eq!(ran.verdict(), "failed", "{}", ran.log);
    assert!(
        ran.summary.contains("lacks the extension zfs") && ran.summary.contains("### Changes"),
        "{}",
        ran.summary
    );
    let ran = caller.run(&[("boot", "false"), ("gate", "nowhere.yaml")])?;
    assert_eq!(ran.verdict(), "refused", "{}", ran.log);
    Ok(())
}

#[test]
fn an_input_that_means_nothing_is_told() -> Result<()> {
    let caller = Caller::new()?;
    for (input, value, told) in [
        ("scenarios", "05-no-such", "no built-in scenario of that name"),
        ("scenarios", "0", "scenario \"0\" is ambiguous"),
        ("shard", "5/4", "is not a shard"),
        ("pull-through", "maybe", "write true or false"),
        ("accelerator", "fast", "use kvm, hvf or tcg"),
    ] {
        let ran = caller.run(&[(input, value)])?;
        assert_eq!(ran.verdict(), "refused", "{input}: {value}: {}", ran.log);
        assert!(ran.log.contains(told), "{input}: {value}: {}", ran.log);
        assert_eq!(ran.steps.last(), Some(&("Form clusters".to_owned(), false)));
    }
    let ran = caller.run(&[("merge", "nowhere")])?;
    assert_eq!((ran.verdict(), ran.log.contains("name the directory")), ("refused", true), "{}", ran.log);
    Ok(())
}

#[test]
fn two_shards_joined_are_one_run_and_a_lost_one_is_missed() -> Result<()> {
    let caller = Caller::new()?;
    let scenarios = WITHOUT_VM.map(|name| root().join(name).display().to_string()).join(" ");
    let shards = caller.runner.workspace.join("shards");
    for shard in ["1/2", "2/2"] {
        let ran = caller.run(&[("scenarios", &scenarios), ("shard", shard)])?;
        assert_eq!(ran.verdict(), "passed", "{}", ran.log);
        assert!(ran.log.contains("TEST RESULTS") && ran.summary.contains("### Host"), "{}", ran.log);
        let name = if shard == "1/2" { "compute-image-as-gateway" } else { "host-memory" };
        assert!(ran.summary.contains(name), "{}", ran.summary);
        let report = PathBuf::from(&ran.outputs["report"]);
        assert_eq!(ran.outputs["recording"], report.join("events.jsonl").display().to_string());
        assert!(report.join("result.json").is_file());
        let to = shards.join(shard.replace('/', "-of-"));
        fs::create_dir_all(&shards)?;
        fs::rename(report, to)?;
    }
    let joined = caller.run(&[("merge", "shards")])?;
    assert_eq!(joined.verdict(), "passed", "{}", joined.log);
    assert_eq!(names(&joined), ["Set up", "Name the caches", "Build", "Join the shards"]);
    let whole = caller.run(&[("scenarios", &scenarios)])?;
    assert_eq!(whole.verdict(), "passed", "{}", whole.log);
    for name in ["compute-image-as-gateway", "host-memory"] {
        let verdict = format!("{name}: ✅ PASSED");
        assert!(joined.log.contains(&verdict) && whole.log.contains(&verdict), "{}", joined.log);
        assert!(joined.summary.contains(name), "{}", joined.summary);
    }
    fs::remove_dir_all(shards.join("2-of-2"))?;
    let lost = caller.run(&[("merge", "shards")])?;
    assert_eq!(lost.verdict(), "failed", "{}", lost.log);
    assert!(lost.summary.contains("shard 2/2 is missing"), "{}", lost.summary);
    Ok(())
}

/// The cluster stays for the steps after the action, and ends with the job, which is this test's process here.
#[test]
fn a_kept_cluster_is_there_for_later_steps() -> Result<()> {
    let caller = Caller::new()?;
    let scenario = "cluster: { nodes: [{ name: cp-1, kind: controlplane }], gateways: 0 }\nname: kept\nchecks: [layers-green]\n";
    fs::write(caller.runner.workspace.join("kept.yaml"), scenario)?;
    let ran = caller.run(&[("keep", "true"), ("scenarios", "kept.yaml")])?;
    let lab = |words: &[&str]| {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
        lab.args(words).arg("--run-root").arg(caller.runner.action.join("target/lab")).output()
    };
    let status = lab(&["status"])?;
    let down = lab(&["down"])?;
    assert_eq!(ran.verdict(), "passed", "{}", ran.log);
    assert!(names(&ran).contains(&"Form a cluster that stays") && !names(&ran).contains(&"Form clusters"));
    let variable =
        |name: &str| ran.environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let run = variable("LAB_RUN").context("no LAB_RUN")?;
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(status.contains(&format!("{run}  ready")), "{status}");
    assert!(variable("KUBECONFIG").is_some() && variable("TALOSCONFIG").is_some(), "{}", ran.environment);
    assert!(String::from_utf8_lossy(&down.stdout).contains(&format!("{run} has ended")), "{down:?}");
    Ok(())
}

#[test]
#[ignore = "builds everything and forms a cluster, which takes half an hour; docs/ci.md has the command"]
fn the_whole_action_runs_from_a_clean_checkout() -> Result<()> {
    let ran = Caller::new()?.runner.run(&[("scenarios", "01")])?;
    println!("{}\n{}", ran.log, ran.summary);
    assert_eq!(ran.verdict(), "passed");
    Ok(())
}
