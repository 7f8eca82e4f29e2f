//! Warm clusters on real VMs: saved, killed half-way, damaged, restored. Each run is a `lab` process
//! of its own, as a user would start it, so that it can be ended with `kill -9`.

#[path = "support/others.rs"]
mod others;
#[path = "support/run_root.rs"]
mod run_root;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use lab_model::events::{Event, EventKind};
use lab_report::read_recording;
use lab_vm::process::ProcessRecord;
use nix::{sys::signal, unistd::Pid};
use run_root::run_root;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::ChildStdout,
};

/// Far more than anything here takes; a test that reaches it has failed.
const DEADLINE: Duration = Duration::from_secs(600);
/// How often the file system is looked at for what a lab is about to do.
const LOOK: Duration = Duration::from_millis(20);

const SCENARIO: &str = "
name: warm
cluster:
  nodes: [{ name: cp-1, kind: controlplane }]
  gateways: 0
  patches: { all: [{ cluster: { coreDNS: { disabled: true } } }] }
  imageDelivery: preloaded
checks: [layers-green, architecture: { is: arm64 }]
";

/// A lab with a run root, and so a store of warm clusters, of its own.
struct Lab {
    root: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Self> {
        let root = run_root("warm-test-")?;
        fs::write(root.path().join("scenario.yaml"), SCENARIO)?;
        Ok(Self { root })
    }

    fn start(&self) -> Result<Child> {
        Command::new(env!("CARGO_BIN_EXE_lab"))
            .arg("run")
            .arg(self.root.path().join("scenario.yaml"))
            .arg("--run-root")
            .arg(self.root.path())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting lab run")
    }

    /// Runs the scenario to its end, which must be a green one, and returns what was recorded.
    fn run(&self) -> Result<Vec<Event>> {
        let before = self.runs()?;
        let status = self.start()?.wait()?;
        let new: Vec<_> = self.runs()?.into_iter().filter(|run| !before.contains(run)).collect();
        let [run] = new.as_slice() else { bail!("{} new runs", new.len()) };
        let events = read_recording(&run.join("events.jsonl"))?;
        ensure!(status.success(), "lab run ended with {status}: {:#?}", notes(&events));
        Ok(events)
    }

    /// Starts the scenario and kills its lab as soon as `moment` has come.
    fn killed_when(&self, moment: impl Fn() -> bool) -> Result<()> {
        let before = self.runs()?;
        let mut lab = self.start()?;
        let began = Instant::now();
        while !moment() {
            if let Some(status) = lab.try_wait()? {
                let new: Vec<_> = self.runs()?.into_iter().filter(|run| !before.contains(run)).collect();
                let events = new.iter().map(|run| read_recording(&run.join("events.jsonl")));
                let said: Vec<_> = events.map(|events| Ok(notes(&events?))).collect::<Result<_>>()?;
                bail!("lab run ended with {status} before the moment came: {said:#?}");
            }
            ensure!(began.elapsed() < DEADLINE, "the moment did not come");
            std::thread::sleep(LOOK);
        }
        lab.kill()?;
        lab.wait()?;
        Ok(())
    }

    /// Starts a command that keeps a cluster, and waits until it says how to use it.
    async fn keep(&self, arguments: &[&str]) -> Result<Kept> {
        let mut lab = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(arguments)
            .arg("--run-root")
            .arg(self.root.path())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(self.errors())?)
            .kill_on_drop(true)
            .spawn()?;
        let mut said = BufReader::new(lab.stdout.take().context("no output")?).lines();
        let kubeconfig = async {
            while let Some(line) = said.next_line().await? {
                if let Some(path) = line.trim().strip_prefix("export KUBECONFIG=") {
                    return Ok(Kubeconfig::read_from(path)?);
                }
            }
            bail!("lab {arguments:?} ended before its cluster was ready")
        };
        let kubeconfig = tokio::time::timeout(DEADLINE, kubeconfig).await??;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let runs = self.runs()?;
        let run = runs.into_iter().max_by_key(|run| fs::metadata(run).and_then(|run| run.created()).ok());
        let client = Client::try_from(config)?;
        Ok(Kept {
            lab,
            said: Some(said),
            root: self.root.path().to_owned(),
            errors: self.errors(),
            run: run.context("no run")?,
            maps: Api::default_namespaced(client.clone()),
            nodes: Api::all(client),
        })
    }

    /// What a command that keeps a cluster says on standard error.
    fn errors(&self) -> PathBuf {
        self.root.path().join("errors")
    }

    fn runs(&self) -> Result<Vec<PathBuf>> {
        Ok(directories(self.root.path())?
            .into_iter()
            .filter(|path| path.join("events.jsonl").exists())
            .collect())
    }

    fn store(&self) -> PathBuf {
        self.root.path().join("cache/warm")
    }

    /// Drafts and whole clusters in the store.
    fn stored(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let all = directories(&self.store()).unwrap_or_default();
        all.into_iter()
            .partition(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')))
    }
}

/// A cluster that somebody keeps.
struct Kept {
    lab: tokio::process::Child,
    /// The reader of what it prints.
    said: Option<Lines<BufReader<ChildStdout>>>,
    /// The root of the runs, and its own run.
    root: PathBuf,
    run: PathBuf,
    /// The file with its standard error.
    errors: PathBuf,
    maps: Api<ConfigMap>,
    nodes: Api<Node>,
}

impl Kept {
    /// Waits until kubelet reports the image of pods' sandboxes. No pod runs in this cluster, so its node pulls nothing.
    async fn has_a_preloaded_image(&self) -> Result<()> {
        let events = read_recording(&self.run.join("events.jsonl"))?;
        ensure!(
            says(&events, "preload: pulled registry.k8s.io/pause:3.10 (1 of 1)"),
            "{:#?}",
            notes(&events)
        );
        ensure!(says(&events, "preload: done in"), "{:#?}", notes(&events));
        let its_own = self.run.join("preload/nodes/preload");
        ensure!(
            its_own.join("console.log").exists() && !its_own.join("disk.raw").exists(),
            "its disk is left"
        );
        let since = Instant::now();
        loop {
            let node = self.nodes.get("cp-1").await?;
            let images = node.status.and_then(|status| status.images).unwrap_or_default();
            let mut names = images.iter().flat_map(|image| image.names.iter().flatten());
            if names.any(|name| name == "registry.k8s.io/pause:3.10") {
                return Ok(());
            }
            ensure!(since.elapsed() < Duration::from_secs(60), "no sandbox image among {images:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Kills a child of the lab, by its name in the lab.
    fn kill(&self, name: &str) -> Result<()> {
        let records = fs::read_dir(self.run.join("processes"))?.flatten();
        let read = |entry: fs::DirEntry| -> Result<ProcessRecord> {
            Ok(serde_json::from_slice(&fs::read(entry.path())?)?)
        };
        let records = records.map(read).collect::<Result<Vec<_>>>()?;
        let record = records.iter().find(|record| record.name == name).context("no such process")?;
        Ok(signal::kill(Pid::from_raw(i32::try_from(record.process.pid)?), signal::Signal::SIGKILL)?)
    }

    /// Waits until `lab status` shows a text.
    async fn until(&self, text: &str) -> Result<()> {
        let since = Instant::now();
        loop {
            let mut status = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab"));
            let output = status.args(["status", "--run-root"]).arg(&self.root).output().await?;
            let status = String::from_utf8_lossy(&output.stdout).into_owned();
            if status.contains(text) {
                return Ok(());
            }
            ensure!(since.elapsed() < Duration::from_secs(60), "no \"{text}\" in:\n{status}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for its end. Returns the exit code and what it said on standard error.
    async fn ended(mut self) -> Result<(Option<i32>, String)> {
        let status = tokio::time::timeout(DEADLINE, self.lab.wait()).await??;
        let said = fs::read_to_string(&self.errors)?;
        ensure!(!said.contains("panicked"), "{said}");
        Ok((status.code(), said))
    }

    /// Stops to read what it prints, as `head` does when it has its lines.
    fn stop_reading(&mut self) {
        self.said = None;
    }

    /// As Ctrl-C does.
    async fn end(self) -> Result<String> {
        let id = self.lab.id().context("it ended by itself")?;
        signal::kill(Pid::from_raw(i32::try_from(id)?), signal::Signal::SIGINT)?;
        let (code, said) = self.ended().await?;
        ensure!(code == Some(130), "{code:?}: {said}");
        Ok(said)
    }
}

fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

fn notes(events: &[Event]) -> Vec<String> {
    let text = |event: &Event| match &event.kind {
        EventKind::Note { text, .. } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

/// Whether the cluster was to start warm, and why.
fn start(events: &[Event]) -> Result<(bool, String)> {
    let start = events.iter().find_map(|event| match &event.kind {
        EventKind::ClusterStarts { warm, reason } => Some((*warm, reason.clone())),
        _ => None,
    });
    start.context("the recording does not say how the cluster started")
}

fn says(events: &[Event], text: &str) -> bool {
    notes(events).iter().any(|note| note.contains(text))
}

#[test]
#[ignore = "long: several clusters are saved and restored; tests/detach.rs stops and starts one each time; `make test-long` runs it"]
fn a_lab_killed_while_it_saves_or_restores_loses_nothing_but_that_and_damage_is_never_restored() -> Result<()>
{
    let lab = Lab::new()?;
    // Killed while it saves: memory is being written.
    lab.killed_when(|| lab.stored().0.iter().any(|draft| draft.join("cp-1.memory").exists()))?;
    let (drafts, whole) = lab.stored();
    ensure!(drafts.len() == 1 && whole.is_empty(), "{drafts:?} {whole:?}");
    let events = lab.run()?;
    let (warm, reason) = start(&events)?;
    ensure!(!warm && reason.starts_with("no cluster of this kind was saved yet"), "{reason}");
    ensure!(says(&events, "saved as a warm cluster"), "{:#?}", notes(&events));
    let (drafts, whole) = lab.stored();
    ensure!(drafts.is_empty() && whole.len() == 1, "{drafts:?} {whole:?}");

    // Killed while it restores: the machine is there and its disk is in place.
    let before = lab.runs()?;
    let restoring = || {
        let runs = lab.runs().unwrap_or_default();
        runs.iter().any(|run| !before.contains(run) && run.join("nodes/cp-1/console.log").exists())
    };
    lab.killed_when(restoring)?;
    let events = lab.run()?;
    ensure!(start(&events)?.0, "{}", start(&events)?.1);
    ensure!(says(&events, "restored warm in"), "{:#?}", notes(&events));

    // One byte of its memory is another.
    let memory = whole[0].join("cp-1.memory");
    let file = fs::OpenOptions::new().read(true).write(true).open(&memory)?;
    let (at, mut byte) = (file.metadata()?.len() / 2, [0]);
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 1], at)?;
    let events = lab.run()?;
    let forms_after_all = events.iter().any(|event| match &event.kind {
        EventKind::ClusterStarts { warm, reason } => {
            !warm && reason.contains("cp-1.memory differs from the saved file")
        }
        _ => false,
    });
    ensure!(start(&events)?.0 && forms_after_all, "{:#?}", notes(&events));
    ensure!(!says(&events, "restored warm in"), "a damaged cluster was handed out");
    ensure!(says(&events, "saved as a warm cluster"), "{:#?}", notes(&events));
    let events = lab.run()?;
    ensure!(says(&events, "restored warm in"), "{:#?}", notes(&events));
    Ok(())
}

#[tokio::test]
async fn a_cluster_comes_back_under_its_name_as_it_was_when_it_was_saved() -> Result<()> {
    let lab = Lab::new()?;
    // Kube takes the process's provider, and finds two.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let scenario = lab.root.path().join("scenario.yaml").to_string_lossy().into_owned();
    let root = lab.root.path().to_string_lossy().into_owned();
    let kept = lab.keep(&["up", "--keep-going", "--scenario", &scenario]).await?;
    kept.has_a_preloaded_image().await?;
    let marker = |name: &str| ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() },
        ..Default::default()
    };
    kept.maps.create(&PostParams::default(), &marker("before")).await?;
    let save = ["snapshot", "save", "demo", "--run-root", &root];
    let saved = tokio::process::Command::new(env!("CARGO_BIN_EXE_lab")).args(save).output().await?;
    ensure!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    // It goes on, and what comes later is not in what was saved.
    kept.maps.create(&PostParams::default(), &marker("after")).await?;
    kept.maps.delete("before", &DeleteParams::default()).await?;
    let mut open = others::open_to_others(lab.root.path());
    // The root itself has the files of this test.
    open.retain(|path| path.parent() != Some(lab.root.path()));
    ensure!(lab.stored().1.len() == 1 || kept.run.join("kubeconfig").exists(), "nothing to look at");
    ensure!(open.is_empty(), "others can read {open:?}");

    // A cluster that is to keep going shows what it lost.
    kept.until("ready").await?;
    kept.kill("cp-1")?;
    kept.until("degraded: cp-1: QEMU ended unexpectedly: signal 9 (SIGKILL)").await?;
    kept.kill("uplink")?;
    kept.until("uplink ended").await?;
    let said = kept.end().await?;
    ensure!(said.contains("error: cp-1: QEMU ended unexpectedly"), "{said}");

    let restored = lab.keep(&["snapshot", "restore", "demo"]).await?;
    ensure!(restored.maps.get_opt("before").await?.is_some(), "what was there when it was saved is gone");
    ensure!(restored.maps.get_opt("after").await?.is_none(), "what came later is there");
    restored.maps.create(&PostParams::default(), &marker("later")).await?;

    // Any other cluster ends with the cause.
    restored.kill("uplink")?;
    let (code, said) = restored.ended().await?;
    ensure!(code == Some(1) && said.contains("uplink ended"), "{code:?}: {said}");
    let restored = lab.keep(&["snapshot", "restore", "demo"]).await?;
    restored.kill("cp-1")?;
    let (code, said) = restored.ended().await?;
    ensure!(code == Some(1) && said.contains("error: cp-1: QEMU ended unexpectedly"), "{code:?}: {said}");

    // Its reader goes, as in `lab up | head -2`.
    let mut restored = lab.keep(&["snapshot", "restore", "demo"]).await?;
    restored.stop_reading();
    let (code, said) = restored.ended().await?;
    ensure!(code == Some(130) && said.contains("the reader of standard output has gone"), "{code:?}: {said}");
    Ok(())
}
