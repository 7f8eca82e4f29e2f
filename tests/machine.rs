//! The machine on a real QEMU, with a guest of a few instructions.

mod guest;

use std::{
    os::unix::net::UnixListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use guest::Then;
use lab_model::{
    accelerator::{Accelerator, CpuModel},
    events::{EventKind, Recorder},
};
use lab_vm::{
    machine::{
        DeviceBus, HostPlatform, Machine, MachineError, MachineFailure, MachineSpec, MemoryFormat,
        QemuBinary, QemuVersion, SavedMemory, choose_accelerator, make_disk,
    },
    process::Processes,
};

/// Far more than anything here takes; a test that reaches it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// One VM's surroundings. The listener stands in for the switch: QEMU only has to connect.
struct Bench {
    directory: tempfile::TempDir,
    qemu: QemuBinary,
    accelerator: Accelerator,
    processes: Processes,
    recorder: Recorder,
    _switch: UnixListener,
}

impl Bench {
    async fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let qemu = QemuBinary::find(None).await?;
        let (accelerator, _) = choose_accelerator(&HostPlatform::current(), &qemu, None)?;
        Ok(Self {
            _switch: UnixListener::bind(directory.path().join("lan"))?,
            processes: Processes::new(directory.path().join("processes"))?,
            directory,
            qemu,
            accelerator,
            recorder: Recorder::new(),
        })
    }

    fn spec(&self, text: &str, then: Then) -> Result<MachineSpec> {
        guest::spec(self.directory.path(), self.accelerator, text, then)
    }

    async fn start(&self, spec: MachineSpec) -> Result<Machine, MachineError> {
        Machine::start(&self.qemu, self.accelerator, spec, &self.processes, self.recorder.clone()).await
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(DEADLINE, future).await.with_context(|| format!("{what} took over {DEADLINE:?}"))
}

fn is_alive(pid: u32) -> bool {
    let stat = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output();
    stat.is_ok_and(|output| {
        let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        !state.is_empty() && !state.starts_with('Z')
    })
}

#[tokio::test]
async fn qemu_says_what_it_is() -> Result<()> {
    let qemu = QemuBinary::find(None).await?;
    ensure!(qemu.version >= QemuVersion::OLDEST, "{}", qemu.version);
    ensure!(qemu.accelerators.contains(&Accelerator::Tcg), "{qemu:?}");
    ensure!(qemu.netdevs.iter().any(|netdev| netdev == "stream"), "{qemu:?}");
    Ok(())
}

#[tokio::test]
async fn a_program_that_is_not_qemu_is_refused() -> Result<()> {
    let error = QemuBinary::find(Some(Path::new("/bin/sh"))).await.err().context("accepted")?;
    ensure!(error.to_string().starts_with("/bin/sh does not answer as QEMU does"), "{error}");
    Ok(())
}

/// All files and directories of a machine, with their modes.
fn modes(directory: &Path) -> Vec<(String, u32)> {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mode = |entry: std::fs::DirEntry| {
        let metadata = entry.metadata().ok().filter(|metadata| metadata.is_dir() || metadata.is_file())?;
        Some((entry.path().display().to_string(), metadata.mode() & 0o777))
    };
    entries.filter_map(mode).collect()
}

#[tokio::test]
async fn nobody_else_reads_the_files_of_a_machine_and_qemu_is_confined() -> Result<()> {
    let bench = Bench::new().await?;
    let spec = bench.spec("here\n", Then::Wait)?;
    let (directory, disk) = (spec.directory.clone(), bench.directory.path().join("private.raw"));
    make_disk(&disk, 8 << 20)?;
    let machine = bench.start(spec).await?;
    within("boot", machine.wait_console("here")).await??;
    let open =
        |(path, mode): &(String, u32)| mode & 0o077 != 0 && (path.ends_with(".log") || path.ends_with(".sh"));
    let files = modes(&directory);
    ensure!(!files.iter().any(open), "{files:?}");
    ensure!(files.iter().any(|(path, _)| path.ends_with("console.log")), "{files:?}");
    let of_disk = modes(bench.directory.path()).into_iter().find(|(path, _)| path.ends_with("private.raw"));
    ensure!(of_disk.is_some_and(|(_, mode)| mode == 0o600), "the disk, which holds keys, is open");
    if cfg!(target_os = "linux") && bench.qemu.sandbox {
        // Mode 2 is a filter (proc_pid_status).
        let status = std::fs::read_to_string(format!("/proc/{}/status", machine.pid()))?;
        let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).context("no seccomp")?;
        ensure!(seccomp.trim() == "2", "QEMU runs without a filter: {seccomp}");
    }
    machine.quit().await;
    Ok(())
}

#[tokio::test]
async fn memory_is_saved_and_loaded_without_a_program() -> Result<()> {
    let bench = Bench::new().await?;
    let format = MemoryFormat::best(&bench.qemu);
    let memory = SavedMemory { file: bench.directory.path().join("it's, a.memory"), format };
    let first = bench.start(bench.spec("type something\n", Then::Echo)?).await?;
    within("the text", first.wait_console("type something")).await??;
    first.pause().await?;
    within("saving", first.save(&memory)).await??;
    first.quit().await;
    use std::os::unix::fs::MetadataExt;
    let saved = std::fs::metadata(&memory.file)?;
    ensure!(saved.len() > 10_000 && saved.mode() & 0o077 == 0, "{saved:?}");

    let second =
        bench.start(MachineSpec { incoming: true, ..bench.spec("type something\n", Then::Echo)? }).await?;
    within("loading", second.load(&memory)).await??;
    second.resume().await?;
    second.type_keys(b"what is typed\n")?;
    within("the echo", second.wait_console("what is typed")).await??;
    // It goes on where it was, and did not boot.
    ensure!(!second.console_tail(9).concat().contains("type something"), "{:?}", second.console_tail(9));
    second.quit().await;

    let half = std::fs::OpenOptions::new().write(true).open(&memory.file)?;
    half.set_len(saved.len() / 2)?;
    let third = bench.start(MachineSpec { incoming: true, ..bench.spec("", Then::Echo)? }).await?;
    let loaded = within("loading half", third.load(&memory)).await?;
    ensure!(loaded.is_err(), "half of the memory was loaded");
    Ok(())
}

#[tokio::test]
async fn a_qemu_that_would_start_a_program_ends_instead() -> Result<()> {
    let bench = Bench::new().await?;
    if !bench.qemu.sandbox {
        ensure!(!cfg!(target_os = "linux"), "this QEMU has no seccomp: install the one of the distribution");
        eprintln!("this QEMU cannot be confined");
        return Ok(());
    }
    // What an attacker in QEMU could do: QEMU's own way to start a program.
    let mark = bench.directory.path().join("started");
    let line = format!("migrate -d \"exec:touch {}\"", mark.display());
    let confined = bench.start(bench.spec("here\n", Then::Wait)?).await?;
    within("boot", confined.wait_console("here")).await??;
    let _ = confined.qmp().human(&line).await;
    let failure = within("the end", confined.failure()).await?;
    ensure!(failure.to_string().contains("SIGSYS"), "{failure}");
    ensure!(!mark.exists(), "QEMU started a program");

    let bench = Bench { qemu: QemuBinary { sandbox: false, ..bench.qemu.clone() }, ..bench };
    let free = bench.start(bench.spec("here\n", Then::Wait)?).await?;
    within("boot", free.wait_console("here")).await??;
    let _ = free.qmp().human(&line).await;
    let deadline = Instant::now() + DEADLINE;
    while !mark.exists() {
        ensure!(Instant::now() < deadline, "a QEMU without a filter starts no program either");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_typed_at_the_console_reaches_the_guest() -> Result<()> {
    let bench = Bench::new().await?;
    let machine = bench.start(bench.spec("type something\n", Then::Echo)?).await?;
    within("the text", machine.wait_console("type something")).await??;
    machine.type_keys(b"what is typed\n")?;
    within("the echo", machine.wait_console("what is typed")).await??;
    machine.quit().await;
    Ok(())
}

#[tokio::test]
async fn a_guest_boots_writes_is_power_cycled_paused_and_quits() -> Result<()> {
    let bench = Bench::new().await?;
    let mut events = bench.recorder.subscribe();
    let machine = bench.start(bench.spec("\x1b[32mhello from the guest\x1b[0m\r\n", Then::Wait)?).await?;
    let pid = machine.pid();

    ensure!(within("boot", machine.wait_console("hello")).await?? == "hello from the guest");
    let mark = machine.console_mark();
    machine.power_cycle().await?;
    within("second boot", machine.wait_console_after(mark, "hello")).await??;
    ensure!(machine.console_tail(9) == ["hello from the guest"; 2], "{:?}", machine.console_tail(9));

    machine.pause().await?;
    ensure!(!machine.is_running().await?);
    machine.resume().await?;
    ensure!(machine.is_running().await?);
    ensure!(machine.usage()?.resident > 1 << 20);
    ensure!(machine.failed().is_none());

    let log = std::fs::read_to_string(machine.spec().console_log())?;
    ensure!(log.starts_with("\x1b[32mhello"), "the log is not raw: {log:?}");
    within("quit", machine.quit()).await?;
    ensure!(!is_alive(pid));

    bench.recorder.close();
    let mut exits = Vec::new();
    while let Some(event) = events.recv().await {
        if let EventKind::MachineExited { expected, .. } = event.kind {
            exits.push(expected);
        }
    }
    ensure!(exits.iter().all(|expected| *expected), "{exits:?}");
    Ok(())
}

#[tokio::test]
async fn a_paused_guest_waits_for_its_cpus() -> Result<()> {
    let bench = Bench::new().await?;
    let spec = MachineSpec { paused: true, ..bench.spec("awake\n", Then::Wait)? };
    let machine = bench.start(spec).await?;
    ensure!(!machine.is_running().await?);
    machine.resume().await?;
    within("boot", machine.wait_console("awake")).await??;
    Ok(())
}

#[tokio::test]
async fn virtio_mmio_devices_are_accepted() -> Result<()> {
    let bench = Bench::new().await?;
    let spec = MachineSpec { bus: DeviceBus::Mmio, ..bench.spec("here\n", Then::Wait)? };
    within("boot", bench.start(spec).await?.wait_console("here")).await??;
    Ok(())
}

#[tokio::test]
async fn a_kernel_panic_is_the_cause_for_every_waiter() -> Result<()> {
    let bench = Bench::new().await?;
    let text = "[ 1.0] Run /init as init process\n\
                [ 1.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\n";
    let machine = bench.start(bench.spec(text, Then::Wait)?).await?;
    let (first, second, third) = within("the panic", async {
        tokio::join!(machine.failure(), machine.failure(), machine.wait_console("never printed"))
    })
    .await?;
    for failure in [first, second, third.err().context("the wait succeeded")?] {
        let MachineFailure::Console { pattern, line, .. } = failure else { bail!("{failure}") };
        ensure!(pattern.id == "init-exited", "{pattern:?}");
        ensure!(line.contains("exitcode=0x00000100"), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn a_fatal_last_line_is_the_cause_rather_than_the_power_off_after_it() -> Result<()> {
    let bench = Bench::new().await?;
    let machine = bench.start(bench.spec("kernel BUG at mm/slub.c:1\n", Then::PowerOff)?).await?;
    let failure = within("the failure", machine.failure()).await?;
    ensure!(
        matches!(&failure, MachineFailure::Console { pattern, .. } if pattern.id == "kernel-bug"),
        "{failure}"
    );
    Ok(())
}

#[tokio::test]
async fn a_guest_that_powers_itself_off_has_failed() -> Result<()> {
    let bench = Bench::new().await?;
    let machine = bench.start(bench.spec("good bye\n", Then::PowerOff)?).await?;
    let failure = within("the failure", machine.failure()).await?;
    let MachineFailure::Exited { status, console, .. } = &failure else { bail!("{failure}") };
    ensure!((status.as_str(), console.as_str()) == ("the guest powered itself off", "good bye"), "{failure}");
    Ok(())
}

#[tokio::test]
async fn what_qemu_refuses_is_said_in_its_own_words_with_a_command_to_repeat() -> Result<()> {
    let bench = Bench::new().await?;
    let spec = MachineSpec { cpu_model: CpuModel::new("abacus"), ..bench.spec("", Then::Wait)? };
    let command = spec.command_file();
    let error = bench.start(spec).await.err().context("an abacus was accepted")?.to_string();
    ensure!(error.contains("abacus") && error.contains("exit status 1"), "{error}");
    ensure!(std::fs::read_to_string(command)?.contains("-cpu abacus"));
    Ok(())
}

#[tokio::test]
async fn dropping_a_machine_ends_its_qemu() -> Result<()> {
    let bench = Bench::new().await?;
    let machine = bench.start(bench.spec("here\n", Then::Wait)?).await?;
    let pid = machine.pid();
    drop(machine);
    gone(pid)
}

fn gone(pid: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        ensure!(Instant::now() < deadline, "QEMU {pid} still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn sfdisk_reads_the_disk_as_the_lab_wrote_it() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let disk = directory.path().join("disk.raw");
    make_disk(&disk, 1 << 30)?;
    let Ok(output) = Command::new("sfdisk").arg("--json").arg(&disk).output() else {
        eprintln!("sfdisk is not installed: nothing to compare with");
        return Ok(());
    };
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let partitions = &table["partitiontable"]["partitions"];
    ensure!(table["partitiontable"]["label"] == "gpt", "{table}");
    ensure!(partitions.as_array().is_some_and(|all| all.len() == 1), "{table}");
    ensure!(partitions[0]["name"] == "META" && partitions[0]["size"] == 2048, "{table}");
    Ok(())
}
