//! A node that lies in every answer of its machine API and of its Kubernetes API (`images/node/cmd/hostile`): it makes the
//! run fail, with a cause, and does nothing else.

#[path = "support/command.rs"]
mod command;

use std::{
    fs,
    io::{Cursor, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use command::{built, said};
use lab_model::{Digest, RunResult, is_hidden};

/// One node. Its layers never become green.
const NEVER_READY: &str = "\
name: hostile
cluster:
  gateways: 0
  nodes: [{ name: cp-1, kind: controlplane, memory: 2GiB }]
budgets: { ready: 6, call: 5 }
";

/// One node that is ready first and lies afterwards. All that checks read comes from it.
const LIES_LATER: &str = "\
name: hostile
cluster:
  gateways: 0
  nodes: [{ name: cp-1, kind: controlplane, memory: 2GiB }]
  patches: { all: [{ machine: { nodeLabels: { lies: later } } }] }
# Nothing waits for the parts of a cluster that is to be saved.
start: cold
budgets: { ready: 20, call: 5, answer: 5 }
checks: [architecture: { is: arm64 }, clock, no-tailscale, roles, layers-green]
";

/// One hostile node at a time, for the sake of its time limits.
static ONE: Mutex<()> = Mutex::new(());

/// The most memory that the lab may use, in KiB.
const MEMORY: u64 = 512 << 10;
/// The most disk space that the run may use, in bytes.
const DISK: u64 = 512 << 20;

/// The hostile program, built for the guest.
fn program(work: &Path) -> Result<PathBuf> {
    let target = work.join("init");
    let built = Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o"])
        .arg(&target)
        .args(["-tags", "osusergo,netgo,grpcnotrace,hostile", "./cmd/hostile"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("images/node"))
        .envs([("CGO_ENABLED", "0"), ("GOOS", "linux"), ("GOARCH", "arm64")])
        .output()
        .context("run go (install it with: make setup)")?;
    ensure!(built.status.success(), "{}", said(&built));
    Ok(target)
}

/// The compute image with the hostile program in place of its init.
fn image(work: &Path) -> Result<PathBuf> {
    let (original, image) = (built("compute")?, work.join("image"));
    fs::create_dir_all(image.join("boot"))?;
    let mut sums = String::new();
    for file in ["boot/vmlinuz", "boot/initramfs.xz"] {
        fs::copy(original.join(file), image.join(file))?;
    }
    // The kernel unpacks consecutive archives over each other.
    let init = Cursor::new(fs::read(program(work)?)?);
    let entry = cpio::NewcBuilder::new("init").mode(0o100_755);
    let archive = cpio::write_cpio(std::iter::once((entry, init)), Vec::new())?;
    let mut initramfs = fs::OpenOptions::new().append(true).open(image.join("boot/initramfs.xz"))?;
    initramfs.write_all(&zstd::encode_all(&archive[..], 1)?)?;
    for file in ["boot/vmlinuz", "boot/initramfs.xz"] {
        let digest = Digest::of_reader(fs::File::open(image.join(file))?)?;
        sums += &format!("{}  ./{file}\n", digest.hex());
    }
    fs::write(image.join("checksums.sha256"), sums)?;
    Ok(image)
}

/// The peak of the resident memory of the lab that works below a directory, in KiB.
struct Peak {
    end: Arc<AtomicBool>,
    highest: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Peak {
    fn watch(work: &Path) -> Self {
        let (end, highest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, seen, work) = (Arc::clone(&end), Arc::clone(&highest), work.display().to_string());
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let process = process.path();
                    let is_lab =
                        fs::read_link(process.join("exe")).is_ok_and(|exe| exe.ends_with("debug/lab"));
                    let words = fs::read(process.join("cmdline")).unwrap_or_default();
                    if !is_lab || !String::from_utf8_lossy(&words).contains(&work) {
                        continue;
                    }
                    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
                    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                    let peak = peak.and_then(|peak| peak.trim().split(' ').next()?.parse().ok());
                    seen.fetch_max(peak.unwrap_or(0), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { end, highest, thread }
    }

    fn ended(self) -> Result<u64> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        Ok(self.highest.load(Ordering::Relaxed))
    }
}

fn run(work: &Path, scenario: &str) -> Result<Output> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::write(work.join("hostile.yaml"), scenario)?;
    let mut script = Command::new(root.join("scripts/ci/run"));
    script
        .current_dir(work)
        .env("LAB_PROGRAM", env!("CARGO_BIN_EXE_lab"))
        .env("LAB_IMAGES", root.join("target/images"))
        .env("LAB_COMPUTE", image(work)?)
        .env("LAB_SCENARIOS", work.join("hostile.yaml"))
        .env("LAB_RUNS", work.join("runs"))
        .env("LAB_REPORT", work.join("report"))
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_OUTPUT", work.join("outputs"))
        .env("GITHUB_STEP_SUMMARY", work.join("summary"));
    script.output().context("scripts/ci/run")
}

/// Files whose names the hostile node chose.
fn escaped() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("/tmp")?.flatten();
    let of_it = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("lab-hostile-");
    Ok(entries.filter(of_it).map(|entry| entry.path()).collect())
}

/// Runs a scenario with the hostile node, and checks that nothing but a failure with a cause comes of it. Returns the log.
fn contained(scenario: &str) -> Result<String> {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let work = tempfile::tempdir()?;
    let work = work.path();
    ensure!(escaped()?.is_empty(), "left by an earlier run: {:?}", escaped()?);
    let peak = Peak::watch(work);
    let output = run(work, scenario)?;
    let peak = peak.ended()?;
    let log = String::from_utf8(output.stdout).context("the log is not text")?;

    // Red, with a cause, under its own name.
    let outputs = fs::read_to_string(work.join("outputs"))?;
    ensure!(output.status.code() == Some(1), "{:?}: {log}", output.status);
    ensure!(outputs.contains("verdict=failed") && !outputs.contains("passed"), "{outputs}");
    let directories = fs::read_dir(work.join("runs"))?.flatten().map(|entry| entry.path());
    let runs: Vec<_> = directories.filter(|path| path.join("result.json").is_file()).collect();
    let [run] = runs.as_slice() else { anyhow::bail!("{} runs: {log}", runs.len()) };
    let result: RunResult = serde_json::from_slice(&fs::read(run.join("result.json"))?)?;
    ensure!(result.cause.contains("cp-1"), "{}", result.cause);
    let readme = fs::read_to_string(run.join("bundle/README.txt"))?;
    ensure!(readme.lines().next().is_some_and(|line| line.contains("cp-1")), "{readme}");

    // Nothing outside of the run, no program of its choice.
    ensure!(escaped()?.is_empty(), "{:?}", escaped()?);
    ensure!(!log.contains("passwd") || !log.contains("root:x:"), "{log}");

    // Nothing unescaped comes out.
    let outside = |character: char| is_hidden(character) && !matches!(character, '\n' | '\t');
    let texts = ["events.jsonl", "report.html", "junit.xml", "summary.md", "trace.json", "bundle/README.txt"];
    let files =
        texts.map(|name| run.join(name)).into_iter().chain([work.join("summary"), work.join("outputs")]);
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let found = text.find(outside).map(|at| &text[at.saturating_sub(40)..(at + 40).min(text.len())]);
        ensure!(found.is_none(), "{}: {found:?}", path.display());
    }
    for path in [run.join("report.html"), run.join("junit.xml"), run.join("summary.md"), work.join("summary")]
    {
        let text = fs::read_to_string(&path)?;
        ensure!(!text.contains("<script>owned"), "{} has markup of the guest", path.display());
    }
    ensure!(!log.contains(outside), "the log has control characters: {log:?}");
    let junit = fs::read_to_string(run.join("junit.xml"))?;
    ensure!(!junit.contains("[[ATTACHMENT|/etc"), "{junit}");
    let token =
        log.lines().find_map(|line| line.strip_prefix("::stop-commands::")).context("commands are read")?;
    let resumed = log.find(&format!("\n::{token}::")).context("commands stay stopped")?;
    ensure!(!log[resumed..].contains("owned-command"), "{log}");

    // Memory and disk stay bounded.
    ensure!(peak > 0 && peak < MEMORY, "the lab used {peak} KiB");
    let blocks: u64 = walkdir::WalkDir::new(run)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_name() != "disk.raw")
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.blocks() * 512)
        .sum();
    ensure!(blocks < DISK, "the run used {blocks} bytes of disk");
    println!("peak memory {} MiB, disk {} MiB, {}", peak >> 10, blocks >> 20, result.cause);
    Ok(log)
}

#[test]
#[ignore = "long: a cluster of its own; tests/limits.rs and the fuzz targets cover what reads such answers; `make test-long` runs it"]
fn a_node_that_lies_in_every_answer_only_makes_the_run_fail() -> Result<()> {
    let log = contained(NEVER_READY)?;
    // It was asked so far: it had a config, and its Kubernetes API was ready.
    ensure!(log.contains("cp-1: Kubernetes API done"), "it did not get far enough: {log}");
    Ok(())
}

#[test]
#[ignore = "long: forms a cluster before the lies begin; `make test-long` runs it"]
fn a_node_that_lies_once_it_is_ready_only_makes_its_checks_fail() -> Result<()> {
    let log = contained(LIES_LATER)?;
    ensure!(log.contains("cp-1: ready done"), "it did not get far enough: {log}");
    for check in ["architecture", "clock", "no-tailscale", "roles", "layers-green"] {
        ensure!(log.contains(&format!("check {check} FAILED")), "{check} was content with lies: {log}");
    }
    Ok(())
}
