//! `lab up --detach` on real VMs: a cluster that stays when its command has ended, and that never stays longer than what
//! owns it.

#[path = "support/run_root.rs"]
mod run_root;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use rand::Rng;
use run_root::run_root;

/// For a cluster to end with what owns it.
const END: Duration = Duration::from_secs(60);
/// How often the host is asked for processes. There is no event for the processes of others.
const LOOK: Duration = Duration::from_millis(200);

/// A run root of its own.
struct Lab {
    root: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Self> {
        Ok(Self { root: run_root("detach-test-")? })
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(words.split(' ')).arg("--run-root").arg(self.root.path());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        command
    }

    fn up(&self, options: &str) -> Result<Output> {
        let output = self.command(&format!("up --detach --warm --nodes 1{options}")).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(output)
    }

    /// Runs a command that starts a cluster with --export, and returns the path of its kubeconfig.
    fn start(&self, words: &str) -> Result<String> {
        let output = self.command(words).output()?;
        ensure!(output.status.success(), "{output:?}");
        kubeconfig_of(&String::from_utf8(output.stdout)?)
    }

    /// Runs a command that must be refused as bad input.
    fn refused(&self, words: &str, cause: &str) -> Result<()> {
        let output = self.command(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(cause), "lab {words}: {output:?}");
        Ok(())
    }

    /// Processes of this run root, but for those of this test: no lab, QEMU or uplink of another one names it.
    fn processes(&self) -> Result<Vec<String>> {
        let root = self.root.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(&root) {
                found.push(format!(
                    "{}: {}",
                    entry.file_name().to_string_lossy(),
                    &line[..line.len().min(200)]
                ));
            }
        }
        Ok(found)
    }

    /// Waits until nothing of this run root runs.
    fn ended(&self, why: &str) -> Result<()> {
        let since = Instant::now();
        loop {
            let processes = self.processes()?;
            if processes.is_empty() {
                return Ok(());
            }
            ensure!(since.elapsed() < END, "{why}, and these stay: {processes:#?}");
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A failed test leaves no cluster. What failed is told already.
        let _ = self.command("down").output();
    }
}

fn kubeconfig_of(exports: &str) -> Result<String> {
    let path = exports.lines().find_map(|line| line.strip_prefix("export KUBECONFIG="));
    Ok(path.context("no export")?.to_owned())
}

/// Asks the API server that a kubeconfig names.
fn ask<T>(kubeconfig: &str, question: impl AsyncFnOnce(Client) -> Result<T>) -> Result<T> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new()?.block_on(async {
        let config = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        question(Client::try_from(config)?).await
    })
}

fn create_config_map(kubeconfig: &str, name: &str) -> Result<()> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
    let map = ConfigMap { metadata, ..Default::default() };
    ask(kubeconfig, async |client| {
        Api::default_namespaced(client).create(&PostParams::default(), &map).await?;
        Ok(())
    })
}

fn has_config_map(kubeconfig: &str, name: &str) -> Result<bool> {
    ask(kubeconfig, async |client| {
        Ok(Api::<ConfigMap>::default_namespaced(client).get_opt(name).await?.is_some())
    })
}

/// Lists the nodes, as a check of one kubectl line does.
fn nodes(kubeconfig: &str) -> Result<Vec<String>> {
    ask(kubeconfig, async |client| {
        let nodes = Api::<Node>::all(client).list(&ListParams::default()).await?;
        Ok(nodes.into_iter().map(|node| node.name_any()).collect())
    })
}

#[test]
fn a_detached_cluster_ends_with_what_owns_it_and_not_with_its_command() -> Result<()> {
    let lab = Lab::new()?;

    // It follows a process, and a job's later steps find it.
    let mut job = Command::new("sleep").arg("3600").spawn()?;
    let environment = lab.root.path().join("environment");
    let follow = format!(" --follow-pid {} --export --github-env", job.id());
    let output = lab
        .command(&format!("up --detach --warm --nodes 1{follow}"))
        .env("GITHUB_ENV", &environment)
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let exports = String::from_utf8(output.stdout)?;
    let kubeconfig = &kubeconfig_of(&exports)?;
    ensure!(
        fs::read_to_string(&environment)?.contains(&format!("KUBECONFIG={kubeconfig}\n")),
        "{environment:?}"
    );
    ensure!(nodes(kubeconfig)?.len() == 1, "the cluster has not stayed");
    let status = String::from_utf8(lab.command("status").output()?.stdout)?;
    ensure!(status.contains("ready"), "{status}");
    job.kill()?;
    job.wait()?;
    lab.ended("the process that it followed has ended")?;

    // Its lifetime ends it. From warm to the verdict of a check.
    let began = Instant::now();
    let kubeconfig = &kubeconfig_of(&String::from_utf8(lab.up(" --ttl 2s --export")?.stdout)?)?;
    ensure!(nodes(kubeconfig)?.len() == 1, "the restored cluster does not answer");
    eprintln!("  warm, detached and checked in {:.1} s", began.elapsed().as_secs_f64());
    lab.ended("its lifetime is over")?;
    ensure!(!Path::new(kubeconfig).exists() || nodes(kubeconfig).is_err(), "it answers after its end");

    // So does lab down.
    let said = String::from_utf8(lab.up("")?.stdout)?;
    ensure!(said.contains("It stays for 4h; `lab down "), "{said}");
    ensure!(lab.command("down").status()?.success(), "lab down failed");
    lab.ended("lab down has ended it")?;

    // A process that is not there is refused before anything starts.
    let refused = lab.command(&format!("up --detach --follow-pid {}", job.id())).output()?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    stopped_and_started(&lab)?;
    killed(&lab, 2)
}

/// A cluster between two uses.
fn stopped_and_started(lab: &Lab) -> Result<()> {
    for (words, cause) in [
        ("stop", "no lab below"),
        ("wait --timeout 1s", "no lab below"),
        ("start", "no cluster is on disk"),
        ("start nobody", "no saved cluster is called nobody"),
    ] {
        lab.refused(words, cause)?;
    }

    // It is waited for while it forms; until then it cannot be stopped.
    let mut up = lab.command("up --detach --warm --nodes 1 --export").stdout(Stdio::piped()).spawn()?;
    let waits = lab.command("wait").stdout(Stdio::piped()).spawn()?;
    let waited = waits.wait_with_output()?;
    ensure!(
        waited.status.success() && String::from_utf8_lossy(&waited.stdout).contains("is ready"),
        "{waited:?}"
    );
    ensure!(up.wait()?.success(), "lab up failed");
    let exports = std::io::read_to_string(up.stdout.take().context("no output")?)?;
    let ended = lab.command("wait --for ended").stdout(Stdio::piped()).spawn()?;

    // What is there when it is stopped is there when it starts, and after a second stop as well.
    create_config_map(&kubeconfig_of(&exports)?, "first")?;
    let stopped = lab.command("stop").output()?;
    let said = String::from_utf8_lossy(&stopped.stdout).into_owned();
    ensure!(stopped.status.success() && said.contains("`lab start lab` runs it again"), "{stopped:?}");
    lab.ended("lab stop has ended it")?;
    let ended = ended.wait_with_output()?;
    ensure!(String::from_utf8_lossy(&ended.stdout).contains("has ended"), "{ended:?}");
    let kubeconfig = lab.start("start --export --ttl 1h")?;
    ensure!(has_config_map(&kubeconfig, "first")?, "what was there when it was stopped is gone");
    create_config_map(&kubeconfig, "second")?;
    ensure!(lab.command("stop --name lab").status()?.success(), "lab stop failed");
    let kubeconfig = lab.start("start lab --export")?;
    ensure!(has_config_map(&kubeconfig, "second")?, "the second stop kept the state of the first");

    // Two clusters are on disk now, so the name is needed.
    ensure!(lab.command("snapshot save other").status()?.success(), "lab snapshot save failed");
    ensure!(lab.command("down").status()?.success(), "lab down failed");
    lab.refused("start", "several clusters are on disk: ")
}

#[test]
fn a_wait_for_a_cluster_that_never_gets_ready_tells_why() -> Result<()> {
    let lab = Lab::new()?;
    let mut up = lab.command("up --nodes 1").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let waits = lab.command("wait").stderr(Stdio::piped()).spawn()?;
    // Its state is published when its machines are about to start.
    let since = Instant::now();
    while !String::from_utf8_lossy(&lab.command("status").output()?.stdout).contains("forming") {
        ensure!(since.elapsed() < END, "the lab does not form a cluster");
        std::thread::sleep(LOOK);
    }
    lab.refused("stop", "only a ready cluster can be kept on disk")?;
    ensure!(lab.command("down").status()?.success(), "lab down failed");
    let waited = waits.wait_with_output()?;
    let said = String::from_utf8_lossy(&waited.stderr).into_owned();
    ensure!(waited.status.code() == Some(1), "{waited:?}");
    ensure!(said.contains("ended before it was ready: ended by its user"), "{said}");
    up.wait()?;
    Ok(())
}

#[test]
#[ignore = "long: a hundred clusters; `make test-long` runs it"]
fn a_hundred_commands_killed_at_any_moment_leave_nothing() -> Result<()> {
    let lab = Lab::new()?;
    lab.up("")?;
    ensure!(lab.command("down").status()?.success(), "lab down failed");
    killed(&lab, 100)
}

/// Kills so many commands, each at a moment between its start and the end of a warm start: their clusters end, or have
/// been handed over and end with lab down.
fn killed(lab: &Lab, times: u32) -> Result<()> {
    let began = Instant::now();
    lab.up("")?;
    let takes = began.elapsed();
    ensure!(lab.command("down").status()?.success(), "lab down failed");
    let mut early = 0;
    for time in 0..times {
        let after = takes.mul_f64(rand::rng().random_range(0.0..1.1));
        let mut command = lab.command("up --detach --warm --nodes 1");
        let mut command = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(after);
        let returned = command.try_wait()?.is_some();
        command.kill()?;
        let status = command.wait()?;
        early += u32::from(!returned);
        if status.success() {
            ensure!(lab.command("down").status()?.success(), "lab down failed");
        }
        lab.ended(&format!("the command was killed after {after:?} (kill {time})"))?;
    }
    ensure!(times < 10 || early > times / 2, "only {early} of {times} were killed before they had returned");
    Ok(())
}
