//! What is left when a lab, or one of its machines, is ended with `kill -9`: nothing that stops
//! the next run.

mod guest;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use guest::Then;
use lab::session::{Session, SessionOptions};
use lab_model::{
    Ending, RunResult,
    accelerator::Accelerator,
    events::{EventKind, Outcome},
};
use lab_report::Display;
use lab_vm::{
    host::{MemoryReservation, MemoryShortage, ReserveError, WhenShort, live_labs},
    machine::{HostPlatform, Machine, MachineError, QemuBinary, choose_accelerator},
    process::{ProcessIdentity, Processes},
};

/// Far more than anything here takes; a test that reaches it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a QEMU may outlive its owner.
const LIFE_AFTER_OWNER: Duration = Duration::from_secs(2);

/// What the owner that is to be killed reserves: little, so that the test fits beside others.
const RESERVED_MIB: u64 = 64;

/// Tells this program that it is the owner, and where runs are kept.
const ROOT: &str = "LAB_TEST_RUN_ROOT";

/// A run with one machine that has booted.
struct Run {
    machine: Machine,
    session: Session,
    _switch: UnixListener,
    _memory: MemoryReservation,
}

impl Run {
    async fn start(root: &Path, title: &str) -> Result<Self> {
        let session = open(root, title).await?;
        let memory = MemoryReservation::reserve(session.name(), RESERVED_MIB, WhenShort::Refuse).await?;
        let qemu = QemuBinary::find(None).await?;
        let (accelerator, _) = choose_accelerator(&HostPlatform::current(), &qemu, None::<Accelerator>)?;
        // Short, as a socket's path must be.
        let directory = root.join("vm");
        fs::create_dir_all(&directory)?;
        let switch = UnixListener::bind(directory.join("lan"))?;
        let spec = guest::spec(&directory, accelerator, "here\n", Then::Wait)?;
        let processes = Processes::new(session.directory().processes())?;
        let machine =
            Machine::start(&qemu, accelerator, spec, &processes, session.recorder().clone()).await?;
        machine.wait_console("here").await?;
        Ok(Self { machine, session, _switch: switch, _memory: memory })
    }
}

async fn open(root: &Path, title: &str) -> Result<Session> {
    let options = SessionOptions { root: root.to_owned(), ..SessionOptions::new(title) };
    Ok(Session::open(SessionOptions { display: Display::Quiet, ..options }).await?)
}

/// Not a test of its own: the body of the process that the test below kills.
#[tokio::test]
async fn owner_process() -> Result<()> {
    let Some(root) = std::env::var_os(ROOT) else { return Ok(()) };
    let run = Run::start(Path::new(&root), "killed-lab").await?;
    println!("\nowner {} {}", run.machine.pid(), run.session.path().display());
    // Until killed, or until the test that started this is gone.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    Ok(())
}

struct Owner {
    process: Child,
    machine: ProcessIdentity,
    run: PathBuf,
}

fn start_owner(root: &Path) -> Result<Owner> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--exact", "owner_process", "--nocapture"])
        .env(ROOT, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(process.stdout.take().context("no stdout")?).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("owner "));
    let line = line.context("the owner did not start a machine; see its words above")?;
    let (_, words) = line.split_once(' ').context("two words")?;
    let (pid, run) = words.split_once(' ').context("three words")?;
    let machine = ProcessIdentity::of(pid.parse()?).context("the machine does not run")?;
    Ok(Owner { process, machine, run: run.into() })
}

/// The socket directory that the record of the run's only child names.
fn recorded_sockets(run: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(run.join("processes"))?;
    let record = files.next().context("no process is recorded")??.path();
    let record: lab_vm::process::ProcessRecord = serde_json::from_slice(&fs::read(record)?)?;
    record.sockets.context("no sockets are recorded")
}

/// Asks for more memory than there can be, to hear who holds what.
async fn shortage() -> Result<MemoryShortage> {
    match MemoryReservation::reserve("too much", u64::MAX / 4, WhenShort::Refuse).await {
        Err(ReserveError::Short(shortage)) => Ok(*shortage),
        Err(error) => Err(error.into()),
        Ok(_) => bail!("the memory of a thousand hosts was reserved"),
    }
}

#[tokio::test]
async fn a_killed_lab_leaves_nothing_that_stops_the_next_run() -> Result<()> {
    let root = tempfile::tempdir()?;
    let mut owner = start_owner(root.path())?;
    let run = owner.run.file_name().context("a name")?.to_string_lossy().into_owned();
    let sockets = recorded_sockets(&owner.run)?;
    ensure!(sockets.is_dir(), "{} is missing", sockets.display());
    ensure!(live_labs(root.path())?.len() == 1);
    // By pid: runs of other roots may have the same name.
    let pid = owner.process.id();
    let refusal = shortage().await?;
    let holder = refusal.holders.iter().find(|holder| holder.pid == pid).context("no holder")?;
    ensure!((holder.run.as_str(), holder.reserved_mib) == (run.as_str(), RESERVED_MIB), "{holder:?}");
    ensure!(refusal.to_string().contains(&run), "the refusal does not name the holder: {refusal}");

    owner.process.kill()?;
    owner.process.wait()?;
    if cfg!(target_os = "linux") {
        // The kernel's doing, hence no event for this process: look again in short steps.
        let deadline = Instant::now() + LIFE_AFTER_OWNER;
        while owner.machine.is_alive() {
            ensure!(Instant::now() < deadline, "QEMU lives {LIFE_AFTER_OWNER:?} after its owner");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    ensure!(live_labs(root.path())?.is_empty());
    ensure!(shortage().await?.holders.iter().all(|holder| holder.pid != pid), "memory is still held");

    let next = open(root.path(), "next").await?;
    ensure!(!owner.machine.is_alive() && !sockets.exists());
    ensure!(fs::read_dir(owner.run.join("processes"))?.count() == 0, "a process record is left");
    let result: RunResult = serde_json::from_slice(&fs::read(owner.run.join("result.json"))?)?;
    ensure!(result.ending == Ending::Died, "{result:?}");
    next.close(Outcome::Passed, Ending::Passed).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_qemu_is_named_as_the_cause() -> Result<()> {
    let root = tempfile::tempdir()?;
    let run = Run::start(root.path(), "killed-qemu").await?;
    let mut events = run.session.recorder().subscribe();
    Command::new("kill").args(["-9", &run.machine.pid().to_string()]).status()?;

    let failure = tokio::time::timeout(DEADLINE, run.machine.failure()).await?;
    ensure!(failure.to_string().contains("signal 9 (SIGKILL)"), "{failure}");
    let error = run.machine.pause().await.err().context("a dead machine was paused")?;
    ensure!(matches!(error, MachineError::Failed(_)), "{error}");
    let exit = async {
        while let Some(event) = events.recv().await {
            if let EventKind::MachineExited { node, status, expected } = event.kind {
                return Some((node.to_string(), status, expected));
            }
        }
        None
    };
    let (node, status, expected) =
        tokio::time::timeout(DEADLINE, exit).await?.context("no event of the exit")?;
    ensure!(node == "node-1" && !expected && status.contains("SIGKILL"), "{node} {status} {expected}");

    let Run { machine, session, .. } = run;
    drop(machine);
    ensure!(fs::read_dir(session.directory().processes())?.count() == 0, "a process record is left");
    session.close(Outcome::Passed, Ending::Passed).await?;
    Ok(())
}
