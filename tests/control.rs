//! The control channel of a living lab, asked by the commands that people use.

#[path = "support/pod_scan.rs"]
mod pod_scan;
#[path = "support/turns.rs"]
mod turns;
mod walk;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use lab::session::{ClusterRequest, RunningCluster, Session, SessionOptions};
use lab_cluster::{
    control::{Answer, ControlClient, ControlServer, LONGEST_REQUEST, Request, Running},
    formation::{Cluster, FormedCluster},
};
use lab_model::{
    Ending,
    events::{EventKind, Outcome, Step, Subject, Subscription},
    network::LinkFault,
};
use lab_plan::{cluster::ClusterSpec, scenario::Start};
use lab_report::Display;
use lab_vm::host::WhenShort;

/// A cluster of one control plane and one worker, in a run of its own, with its control channel.
struct Living {
    session: Session,
    running: RunningCluster,
    control: ControlServer,
    socket: PathBuf,
}

impl Living {
    async fn start(title: &str) -> Result<Self> {
        let options = SessionOptions { display: Display::Plain, ..SessionOptions::new(title) };
        let session = Session::open(options).await?;
        // The cluster of scenarios without a name, so that it starts from theirs.
        let spec = ClusterSpec::of_compute_nodes("lab".parse()?, 1, 1)?;
        let request = ClusterRequest {
            when_short: WhenShort::WaitUpTo(turns::MEMORY_PATIENCE),
            start: Start::Warm,
            ..ClusterRequest::new(spec)
        };
        let running = session.start(request).await?;
        let control = ControlServer::start(&running.cluster)?;
        let socket = ControlServer::socket_of(&running.cluster).context("no socket")?;
        session.publish(&running.cluster, "forming")?;
        Ok(Self { session, running, control, socket })
    }

    fn cluster(&self) -> &Arc<Cluster> {
        &self.running.cluster
    }

    async fn end(self) -> Result<()> {
        drop(self.control);
        self.running.shut_down().await;
        self.session.close(Outcome::Passed, Ending::Passed).await?;
        Ok(())
    }

    /// Runs a command of the lab on this run.
    async fn lab(&self, arguments: &str, input: &str) -> Result<Output> {
        let (name, input) = (self.session.name().to_owned(), input.to_owned());
        // Everything after "--" is not the lab's.
        let (own, rest) = arguments.split_once(" -- ").unwrap_or((arguments, ""));
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command.args(own.split(' ')).args(["--lab", &name]);
        if !rest.is_empty() {
            command.arg("--").args(rest.split(' '));
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn()?;
            child.stdin.take().context("no input")?.write_all(input.as_bytes())?;
            Ok(child.wait_with_output()?)
        })
        .await?
    }

    /// What a command of the lab prints, which must succeed.
    async fn done(&self, arguments: &str) -> Result<String> {
        let output = self.lab(arguments, "").await?;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status.success(), "lab {arguments}: {out}{err}");
        Ok(out)
    }

    async fn refused(&self, arguments: &str) -> Result<String> {
        let output = self.lab(arguments, "").await?;
        ensure!(!output.status.success(), "lab {arguments} was done: {}", text(&output.stdout));
        Ok(text(&output.stderr))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Sends bytes as they are and returns the lines that are answered until the other end has enough of them.
fn exchange(socket: &Path, bytes: &[u8], answers: usize) -> Result<Vec<String>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(bytes)?;
    let lines = BufReader::new(stream).lines().take(answers);
    Ok(lines.collect::<Result<_, _>>()?)
}

/// A LAN without machines is enough for links, and for everything that is refused.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_disturbed_by_command_and_nonsense_ends_nothing() -> Result<()> {
    let living = Living::start("control-links").await?;
    let mode = std::fs::metadata(&living.socket)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "the socket's mode is {mode:o}");

    ensure!(living.done("net cut worker-1").await? == "the link of worker-1 is cut\n");
    let shape = "net shape uplink --delay 50ms --jitter 10ms --loss 2% --rate 10Mbit";
    ensure!(living.done(shape).await?.contains("delay 50ms ± 10ms, loss 2%, rate 10Mbit"));
    ensure!(living.done("net partition cp-1 / worker-1 --uplink cp-1").await?.contains("uplink for cp-1"));
    let faults = living.cluster().lan().faults();
    ensure!(faults.links[0].1 == LinkFault::Cut && faults.links.len() == 2, "{faults:?}");
    ensure!(faults.partition.is_some(), "{faults:?}");
    let status = living.done("net status").await?;
    for line in [
        "cp-1         gone",
        "worker-1     link cut",
        "uplink       link shaped",
        "network partitioned: cp-1",
    ] {
        ensure!(status.contains(line), "no \"{line}\" in:\n{status}");
    }
    ensure!(living.done("net heal").await? == "the partition has ended\n");
    ensure!(living.done("net restore").await? == "whole again: worker-1, uplink\n");
    ensure!(living.done("net status").await?.contains("no link is cut or shaped"));

    let file = living.session.path().join("mine.pcapng");
    let started = living.done(&format!("net capture start cp-1 --file {} --json", file.display())).await?;
    let started: serde_json::Value = serde_json::from_str(&started)?;
    ensure!(started["done"]["file"] == file.to_string_lossy().as_ref(), "{started}");
    ensure!(living.done("net capture stop cp-1").await?.starts_with("0 frames in "));

    for (command, why) in [
        ("net cut worker-9", "no link worker-9; its links are cp-1, worker-1 and uplink"),
        ("net partition cp-1,worker-1", "nothing would be partitioned"),
        ("net shape worker-1", "the link would not change"),
        ("net shape worker-1 --loss 120%", "is not a share of frames"),
        ("net capture stop cp-1", "not being captured"),
        ("node pause worker-1", "worker-1 has no QEMU"),
        ("node reboot worker-9", "there is no node worker-9; the nodes are cp-1, worker-1"),
        ("snapshot save early", "there is nothing to save: the cluster has not formed yet"),
        ("cluster kubectl", "has no kubeconfig yet; its cluster is forming"),
    ] {
        let said = living.refused(command).await?;
        ensure!(said.contains(why), "lab {command}: {said}");
    }

    let socket = living.socket.clone();
    tokio::task::spawn_blocking(move || {
        let nonsense = b"fly\n\xff\xfe\n{\"do\":\"cut\"}\n{\"do\":\"heal\"}\n";
        let answers = exchange(&socket, nonsense, 4)?;
        ensure!(
            answers[..3].iter().all(|line| line.starts_with(r#"{"error":{"message":"this is no"#)),
            "{answers:?}"
        );
        ensure!(answers[3].starts_with(r#"{"done":"#), "{answers:?}");
        let endless = exchange(&socket, &vec![b'x'; LONGEST_REQUEST], 1)?;
        ensure!(endless[0].contains("at most 65536 bytes"), "{endless:?}");
        // Somebody else is served all the same.
        ensure!(matches!(ControlClient::connect(&socket)?.ask(&Request::Status)?, Answer::Status(_)));
        Ok(())
    })
    .await??;
    let socket = living.socket.clone();
    let mut events = living.session.recorder().subscribe();
    living.end().await?;
    ensure!(!socket.exists(), "the socket is left behind");
    let mut steps = Vec::new();
    while let Some(event) = events.recv().await {
        match event.kind {
            EventKind::StepStarted { subject: Subject::Cluster, step } => steps.push((step, None)),
            EventKind::StepFinished { subject: Subject::Cluster, step, outcome } => {
                steps.push((step, Some(outcome)));
            }
            _ => {}
        }
    }
    let teardown = [(Step::Teardown, None), (Step::Teardown, Some(Outcome::Passed))];
    ensure!(steps == teardown, "the teardown was recorded as {steps:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits for several reboots; `make test-long` runs it"]
async fn nodes_are_paused_killed_and_rebooted_and_pods_are_entered() -> Result<()> {
    let walk = tokio::task::spawn_blocking(walk::Walk::build).await??;
    let _turn = turns::turn(2).await?;
    let living = Living::start("control-nodes").await?;
    let kubeconfig = kubeconfig_step(living.session.recorder().subscribe());
    let formed = async { Ok(living.session.form(living.cluster()).await?) };
    let published = async {
        kubeconfig.await?;
        // Well before the cluster has formed.
        finds_the_kubeconfig(&living).await?;
        ensure!(FormedCluster::of(living.cluster()).is_err(), "the cluster had formed by then");
        Ok(())
    };
    let (formed, ()) = tokio::try_join!(formed, published)?;
    living.session.publish(living.cluster(), "ready")?;

    enters_pods(&living, &formed).await?;
    let (talosconfig, worker) =
        (living.cluster().directory().join("talosconfig"), formed.node("worker-1")?.plan().address);
    tokio::task::spawn_blocking(move || walk.agrees_with_the_table(&talosconfig, worker)).await??;
    pauses_kills_and_reboots(&living, &formed).await?;
    living.end().await
}

/// tests/network.rs scans from a pod's address without a VM.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: `make test-long` runs it"]
async fn a_scan_from_a_pod_finds_only_what_is_served() -> Result<()> {
    let _turn = turns::turn(2).await?;
    let living = Living::start("control-scan").await?;
    let formed = living.session.form(living.cluster()).await?;
    pod_scan::finds_only_what_is_served(&formed).await?;
    living.end().await
}

/// Waits for the end of the step that hands out the kubeconfig.
async fn kubeconfig_step(mut events: Subscription) -> Result<()> {
    while let Some(event) = events.recv().await {
        if let EventKind::StepFinished { step: Step::Kubeconfig, outcome, .. } = event.kind {
            ensure!(outcome == Outcome::Passed, "{outcome:?}");
            return Ok(());
        }
    }
    anyhow::bail!("the run ended before its cluster had a kubeconfig")
}

/// `lab cluster kubectl` runs kubectl with the kubeconfig of the lab, and ends as it does.
async fn finds_the_kubeconfig(living: &Living) -> Result<()> {
    // A kubectl that says how it was run.
    let directory = tempfile::tempdir()?;
    let program = directory.path().join("kubectl");
    std::fs::write(&program, "#!/bin/sh\necho \"$KUBECONFIG $*\"\nexit 5\n")?;
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
    let run = async |path: &Path| -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command
            .args(["cluster", "kubectl", "--lab", living.session.name(), "get", "pods", "-A"])
            .env("PATH", path);
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    };
    let found = run(directory.path()).await?;
    let kubeconfig = living.cluster().directory().join("kubeconfig");
    ensure!(text(&found.stdout) == format!("{} get pods -A\n", kubeconfig.display()), "{found:?}");
    ensure!(found.status.code() == Some(5), "{found:?}");
    let missing = run(Path::new("/nowhere")).await?;
    ensure!(missing.status.code() == Some(3) && text(&missing.stderr).contains("install it"), "{missing:?}");
    Ok(())
}

async fn enters_pods(living: &Living, formed: &FormedCluster) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(formed.kubernetes().client(), "kube-system");
    let limit = Instant::now() + Duration::from_secs(120);
    let pod = loop {
        let dns = pods.list(&ListParams::default().labels("k8s-app=kube-dns")).await?;
        let running =
            |pod: &&Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
        if let Some(pod) = dns.items.iter().find(running) {
            break pod.name_any();
        }
        ensure!(Instant::now() < limit, "no DNS pod runs");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let version = living.done(&format!("cluster exec kube-system/{pod} -- /coredns -version")).await?;
    ensure!(version.starts_with("CoreDNS-1."), "{version}");
    let stdin = format!("cluster exec -i kube-system/{pod} -c coredns -- /coredns -conf stdin");
    let wrong = living.lab(&stdin, ".:5300 {\n nonsense\n}\n").await?;
    ensure!(wrong.status.code() == Some(1), "{wrong:?}");
    ensure!(
        text(&wrong.stdout).contains("nonsense") || text(&wrong.stderr).contains("nonsense"),
        "{wrong:?}"
    );
    let missing = living.refused("cluster exec kube-system/nobody -- /coredns").await?;
    ensure!(missing.contains("nobody"), "{missing}");
    Ok(())
}

async fn pauses_kills_and_reboots(living: &Living, formed: &FormedCluster) -> Result<()> {
    let worker = formed.node("worker-1")?;
    let name = worker.name();
    let boot_id = async || -> Result<String> {
        let client = worker.connect().await?;
        Ok(client.read_file("/proc/sys/kernel/random/boot_id", Duration::from_secs(20)).await?)
    };
    let green = async || worker.wait_ready().await;
    let state = || -> Result<Running> {
        match ControlClient::connect(&living.socket)?.ask(&Request::Status)? {
            Answer::Status(state) => Ok(state.nodes[1].running),
            other => anyhow::bail!("{other:?}"),
        }
    };
    let state = async || tokio::task::block_in_place(state);

    ensure!(state().await? == Running::Yes);
    living.done("node pause worker-1").await?;
    ensure!(state().await? == Running::Paused);
    living.done("node resume worker-1").await?;
    ensure!(state().await? == Running::Yes);

    let attached = living.lab("node console worker-1 --attach", "\n\x1dnot typed any more").await?;
    ensure!(attached.status.success() && text(&attached.stderr).contains("Ctrl-] leaves"), "{attached:?}");

    let first = boot_id().await?;
    let said = living.done("node reboot worker-1").await?;
    ensure!(said.contains("as its machine API was asked to"), "{said}");
    let limit = Instant::now() + Duration::from_secs(180);
    let second = loop {
        match boot_id().await {
            Ok(id) if id != first => break id,
            _ => ensure!(Instant::now() < limit, "worker-1 did not reboot"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    green().await?;

    living.done("node kill worker-1").await?;
    ensure!(state().await? == Running::Gone);
    let said = living.done("node reboot worker-1").await?;
    ensure!(said.contains("started again with its disk"), "{said}");
    green().await?;
    let third = boot_id().await?;
    ensure!(third != second, "{name} did not boot again");

    // A node that hangs takes no request to reboot; its power is cut.
    living.done("node pause worker-1").await?;
    let said = living.done("node reboot worker-1").await?;
    ensure!(said.contains("lost power"), "{said}");
    green().await?;
    ensure!(boot_id().await? != third);
    Ok(())
}

/// A scenario that must pass and cannot: its machine is killed as soon as it starts.
const DOOMED: &str = "
name: doomed
cluster:
  gateways: 0
  nodes:
    - { name: cp-1, kind: controlplane }
faults:
  - kill-qemu: { node: cp-1, at: boot }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_pauses_at_its_failure_and_ends_with_that_failures_exit_code() -> Result<()> {
    let _turn = turns::turn(1).await?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("doomed.yaml");
    std::fs::write(&file, DOOMED)?;
    tokio::task::spawn_blocking(move || {
        let lab = || Command::new(env!("CARGO_BIN_EXE_lab"));
        // Without the option it ends by itself.
        let ended = lab().arg("run").arg(&file).output()?;
        ensure!(ended.status.code() == Some(1) && !text(&ended.stdout).contains("Paused"), "{ended:?}");

        let mut paused = lab()
            .args(["run", "--pause-on-failure"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines =
            BufReader::new(paused.stdout.take().context("no output")?).lines().map_while(Result::ok);
        let at = lines.find(|line| line.starts_with("Paused at ")).context("it did not pause")?;
        ensure!(at.starts_with("Paused at step \"boot\": ") && at.contains("QEMU"), "{at}");
        let entered: Vec<String> = lines.by_ref().take_while(|line| !line.contains("ends it")).collect();
        ensure!(entered.iter().any(|line| line.trim() == "lab node console cp-1"), "{entered:?}");
        let status = lab().args(["net", "status", "--lab", "doomed"]).output()?;
        ensure!(text(&status.stdout).contains("cp-1         gone"), "{status:?}");
        let phase = text(&lab().arg("status").output()?.stdout);
        ensure!(phase.contains("paused at step \"boot\""), "{phase}");

        ensure!(paused.try_wait()?.is_none(), "it did not wait");
        let down = lab().args(["down", "doomed"]).output()?;
        ensure!(down.status.success(), "{down:?}");
        ensure!(paused.wait()?.code() == Some(1));
        ensure!(lines.any(|line| line.contains("doomed")), "no summary");
        Ok(())
    })
    .await?
}
