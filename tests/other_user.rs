//! Another user of the same host: reads no secret of a run, opens no socket of it, and blocks no run.
//!
//! The tests become other users as root, or with `sudo` without a password. Without either they can prove nothing: they
//! say so, and fail in continuous integration.

#[path = "support/others.rs"]
mod others;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use lab_model::files::FileLock;
use lab_vm::{
    host::{MemoryReservation, WhenShort},
    process::ProcessRecord,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

/// User ids that no account has.
const STRANGER: u32 = 54_321;
const VICTIM: u32 = 54_322;

/// Tells this program what it is to do as another user, and where.
const TASK: &str = "LAB_TEST_TASK";
const PLACE: &str = "LAB_TEST_PLACE";

/// A directory that every user can enter, with a copy of this program that every user can start.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("others-").tempdir_in("/tmp")?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let program = directory.path().join("program");
        fs::copy(std::env::current_exe()?, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let shared = directory.path().join("shared");
        fs::create_dir(&shared)?;
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777))?;
        Ok(Self { directory })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The home of other users, in a directory in which every user may create files.
    fn home(&self) -> PathBuf {
        self.path().join("shared/home")
    }

    /// A process of another user that does `task`. `None` if this user cannot become another.
    fn other(&self, user: u32, task: &str) -> Result<Option<Command>> {
        let program = self.path().join("program");
        let mut command = if geteuid().is_root() {
            let mut command = Command::new(&program);
            command.uid(user).gid(user);
            command
        } else {
            let may = Command::new("sudo").args(["-n", "true"]).stderr(Stdio::null()).status();
            if !may.is_ok_and(|status| status.success()) {
                let why = "NOT LOOKED AT: this user cannot become another; run the test as root";
                ensure!(std::env::var_os("CI").is_none(), "{why}");
                eprintln!("{why}");
                return Ok(None);
            }
            let mut command = Command::new("sudo");
            let user = format!("#{user}");
            let names = format!("--preserve-env={TASK},{PLACE}");
            // sudo sets HOME itself.
            let home = format!("HOME={}", self.home().display());
            command.args(["-n", "-u", &user, "-g", &user, &names, "env", &home]).arg(&program);
            command
        };
        command
            .args(["--exact", "process_of_another_user", "--nocapture"])
            .current_dir("/")
            .env(TASK, task)
            .env(PLACE, self.path())
            .env("HOME", self.home())
            .env_remove("XDG_RUNTIME_DIR");
        Ok(Some(command))
    }
}

/// Not a test of its own: what the processes of other users do.
#[tokio::test]
async fn process_of_another_user() -> Result<()> {
    let (Some(task), Some(place)) = (std::env::var_os(TASK), std::env::var_os(PLACE)) else { return Ok(()) };
    ensure!(!geteuid().is_root(), "still root");
    let place = PathBuf::from(place);
    match task.to_string_lossy().as_ref() {
        // Opens everything that is listed.
        "open" => {
            for path in fs::read_to_string(place.join("list"))?.lines() {
                if fs::File::open(path).is_ok() || UnixStream::connect(path).is_ok() {
                    println!("opened {path}");
                }
            }
        }
        // Takes the name of the victim's directory, and holds its lock.
        "take" => {
            let taken = taken();
            fs::create_dir(&taken)?;
            fs::set_permissions(&taken, fs::Permissions::from_mode(0o777))?;
            let lock = taken.join("memory.lock");
            let _held = FileLock::acquire(&lock)?;
            fs::set_permissions(&lock, fs::Permissions::from_mode(0o666))?;
            println!("taken");
            // Until the test has seen enough.
            let _ = std::io::stdin().read_line(&mut String::new());
            fs::remove_dir_all(&taken)?;
        }
        // Reserves memory, as each run does before anything boots.
        "reserve" => {
            let reserved = MemoryReservation::reserve("victim", 1, WhenShort::Refuse).await?;
            println!("reserved {}", reserved.mib());
        }
        other => bail!("no task {other}"),
    }
    Ok(())
}

fn taken() -> PathBuf {
    PathBuf::from(format!("/tmp/lab-{VICTIM}"))
}

/// A machine that boots, panics, and then waits with all sockets of a run.
const SCENARIO: &str = "
name: panics
cluster:
  gateways: 0
  nodes:
    - { name: cp-1, kind: controlplane }
faults:
  - kernel-panic: { node: cp-1 }
";

/// Everything of a run: its files, and the sockets of its processes.
fn belongings(runs: &Path) -> Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = others::below(runs);
    let records = all.iter().filter(|path| path.to_string_lossy().ends_with(".process.json"));
    let read = |path: &PathBuf| -> Result<ProcessRecord> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let records = records.map(read).collect::<Result<Vec<_>>>()?;
    ensure!(records.len() >= 2, "a machine and an uplink: {records:?}");
    all.extend(records.into_iter().filter_map(|record| record.sockets).flat_map(|path| others::below(&path)));
    Ok(all)
}

#[test]
fn another_user_reads_no_file_of_a_run_and_opens_no_socket() -> Result<()> {
    let place = Place::new()?;
    let Some(mut stranger) = place.other(STRANGER, "open")? else { return Ok(()) };
    // A root of runs that the user made, which others can enter.
    let runs = place.path().join("runs");
    fs::create_dir(&runs)?;
    fs::set_permissions(&runs, fs::Permissions::from_mode(0o755))?;
    fs::write(place.path().join("panics.yaml"), SCENARIO)?;
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["run", "--pause-on-failure", "--run-root"])
        .arg(&runs)
        .arg(place.path().join("panics.yaml"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("XDG_RUNTIME_DIR")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(lab.stdout.take().context("no output")?).lines().map_while(Result::ok);
    lines.find(|line| line.starts_with("Paused at ")).context("the run did not fail at its fault")?;

    // The root is the user's own, and says only that there are runs.
    let all: Vec<_> = belongings(&runs)?.into_iter().filter(|path| *path != runs).collect();
    let sockets = all.iter().filter(|path| fs::metadata(path).is_ok_and(|it| it.file_type().is_socket()));
    // Console and monitor of a machine, the switch, the control channel.
    ensure!(sockets.count() >= 4, "{all:?}");
    for file in ["disk.raw", "console.log", "events.jsonl"] {
        ensure!(all.iter().any(|path| path.ends_with(file)), "no {file} among {all:?}");
    }
    // What others may open, to know that they can.
    let (file, socket) = (place.path().join("open"), place.path().join("open.sock"));
    fs::write(&file, "")?;
    let _listener = UnixListener::bind(&socket)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
    let listed: Vec<_> = all.iter().chain([&file, &socket]).map(|path| path.display().to_string()).collect();
    fs::write(place.path().join("list"), listed.join("\n"))?;
    fs::set_permissions(place.path().join("list"), fs::Permissions::from_mode(0o644))?;
    let output = stranger.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let opened: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("opened ")).collect();
    ensure!(output.status.success(), "{output:?}");
    ensure!(opened == [file.display().to_string(), socket.display().to_string()], "opened: {opened:?}");

    kill(Pid::from_raw(i32::try_from(lab.id())?), Signal::SIGINT)?;
    let status = lab.wait()?;
    ensure!(status.code() == Some(1), "{status}");
    Ok(())
}

#[test]
fn another_user_who_takes_a_name_in_tmp_blocks_no_run() -> Result<()> {
    let place = Place::new()?;
    let commands = (place.other(STRANGER, "take")?, place.other(VICTIM, "reserve")?);
    let (Some(mut take), Some(mut reserve)) = commands else { return Ok(()) };
    let mut stranger = take.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut lines =
        BufReader::new(stranger.stdout.take().context("no output")?).lines().map_while(Result::ok);
    lines.find(|line| line == "taken").context("the stranger did not take the name")?;
    let output = reserve.output();
    stranger.stdin.take().context("no input")?.write_all(b"\n")?;
    stranger.wait()?;
    let output = output?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("reserved 1"), "{output:?}");
    ensure!(place.home().join(".cache/lab/run/memory.json").exists(), "where did it keep the account?");
    Ok(())
}
