//! Cleanup after labs that died: their processes, socket directories and markers.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use lab_model::{
    Ending, RESULT, RunDirectoryError, RunResult,
    files::{FileLock, replace_file},
    io_error,
};

use super::run_directory::{LOCK, PROCESSES, STATE, lock_root};
use crate::process::{ProcessIdentity, ProcessRecord, may_remove, read_records};

/// The number of finished runs to keep by default.
pub const DEFAULT_RUNS_KEPT: usize = 20;

/// The directory in a run that contains one directory per node.
pub const NODES: &str = "nodes";
/// The disk file in the directory of a node.
pub const DISK: &str = "disk.raw";

/// The maximum time until a killed process is gone. A process that takes longer hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The result of cleaning up one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reaped {
    pub run: String,
    /// Whether the run died without writing a result.
    pub died: bool,
    /// The processes that were still running and have been ended.
    pub ended: Vec<ProcessIdentity>,
    /// The removed directories outside the run directory.
    pub removed: Vec<PathBuf>,
    /// The errors of the cleanup, one per line.
    pub problems: Vec<String>,
}

impl Reaped {
    /// Whether there was something to clean up.
    fn is_news(&self) -> bool {
        self.died || !self.ended.is_empty() || !self.removed.is_empty() || !self.problems.is_empty()
    }
}

/// One line for people, with the errors of the cleanup.
impl fmt::Display for Reaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.died { "had died" } else { "had ended" };
        write!(f, "cleaned up after {}, which {end}: {} processes ended", self.run, self.ended.len())?;
        for problem in &self.problems {
            write!(f, "; {problem}, the next run tries again")?;
        }
        Ok(())
    }
}

/// Cleans up after every run in `root` without a living owner. Does not touch runs with a living owner.
/// Blocks until the killed processes are gone, usually a few milliseconds.
///
/// # Errors
/// Fails if `root` cannot be listed or locked. Errors of a single run are reported in its [`Reaped`].
pub fn reap(root: &Path) -> Result<Vec<Reaped>, RunDirectoryError> {
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let root = root.canonicalize().map_err(io_error("resolving", root))?;
    let _root_lock = lock_root(&root)?;
    let mut reaped = Vec::new();
    for run in run_directories(&root)? {
        if let Ok(Some(_lock)) = FileLock::try_acquire(&run.join(LOCK)) {
            reaped.push(reap_run(&run));
        }
    }
    reaped.retain(Reaped::is_news);
    Ok(reaped)
}

/// Removes the oldest finished runs until `keep` are left. Live runs are neither counted nor removed.
/// Returns the names of the removed runs. Call [`reap`] first.
///
/// # Errors
/// Fails if `root` cannot be listed or locked, or if a directory cannot be removed.
pub fn prune(root: &Path, keep: usize) -> Result<Vec<String>, RunDirectoryError> {
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let _root_lock = lock_root(root)?;
    let mut over = Vec::new();
    for run in run_directories(root)? {
        let lock = run.join(LOCK);
        // The lock file is created with the run and never written, so its modification time is the
        // start of the run.
        let started = fs::metadata(&lock).and_then(|m| m.modified());
        if let (Ok(Some(lock)), Ok(started)) = (FileLock::try_acquire(&lock), started) {
            over.push((started, run, lock));
        }
    }
    over.sort_by_key(|(started, ..)| std::cmp::Reverse(*started));
    let mut removed = Vec::new();
    for (_, run, _lock) in over.into_iter().skip(keep) {
        fs::remove_dir_all(&run).map_err(io_error("removing", &run))?;
        removed.push(name_of(&run));
    }
    Ok(removed)
}

/// The run directories in `root`, sorted by name. Other directories in `root` have no lock file.
pub(super) fn run_directories(root: &Path) -> Result<Vec<PathBuf>, RunDirectoryError> {
    let entries = fs::read_dir(root).map_err(io_error("listing", root))?;
    let mut runs: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join(LOCK).is_file()).collect();
    runs.sort();
    Ok(runs)
}

pub(super) fn name_of(run: &Path) -> String {
    run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Removes the disks of a run's nodes, because they contain secrets. A run with several clusters has
/// one directory per cluster.
fn remove_disks(run: &Path) {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for cluster in entries(run).chain([run.to_owned()]) {
        for node in entries(&cluster.join(NODES)) {
            let _ = fs::remove_file(node.join(DISK));
        }
    }
}

/// Cleans up one run. The caller holds the lock of the run.
fn reap_run(run: &Path) -> Reaped {
    let mut reaped = Reaped {
        run: name_of(run),
        died: !run.join(RESULT).exists(),
        ended: Vec::new(),
        removed: Vec::new(),
        problems: Vec::new(),
    };
    for (file, record) in read_records(&run.join(PROCESSES)) {
        match clean_up(&record, &mut reaped) {
            // Nothing is left to clean up, so later runs can skip this record.
            Ok(()) => drop(fs::remove_file(file)),
            Err(problem) => reaped.problems.push(problem),
        }
    }
    remove_disks(run);
    if reaped.died {
        mark_died(run, &mut reaped);
    }
    // The published addresses are no longer valid.
    let _ = fs::remove_file(run.join(STATE));
    reaped
}

/// Ends one child process and removes its sockets. If this fails, the record stays and the next run
/// tries again.
fn clean_up(record: &ProcessRecord, reaped: &mut Reaped) -> Result<(), String> {
    let ProcessRecord { name, process, sockets } = record;
    if process.is_alive() {
        // Send SIGKILL immediately: the machines are disposable, and the owner that would stop them
        // gracefully is dead.
        process
            .kill(KILL_PATIENCE)
            .map_err(|error| format!("ending {name} (pid {}) failed: {error}", process.pid))?;
        reaped.ended.push(process.clone());
    }
    let Some(directory) = sockets.as_ref().filter(|sockets| may_remove(sockets)) else { return Ok(()) };
    match fs::remove_dir_all(directory) {
        Ok(()) => reaped.removed.push(directory.clone()),
        // Another child of the run may have used the same directory.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("removing {} failed: {error}", directory.display())),
    }
    Ok(())
}

fn mark_died(run: &Path, reaped: &mut Reaped) {
    let result = RunResult {
        ending: Ending::Died,
        at: jiff::Timestamp::now(),
        cause: format!(
            "the lab ended without a result (killed?); {} of its processes were still running",
            reaped.ended.len()
        ),
    };
    let written = serde_json::to_vec_pretty(&result).map_err(std::io::Error::other);
    if let Err(error) = written.and_then(|text| replace_file(&run.join(RESULT), &text)) {
        reaped.problems.push(format!("marking {} as died failed: {error}", run.display()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::host::{LabState, RunDirectory, live_labs};
    use crate::process::SOCKETS_PREFIX;

    const ROOT_VARIABLE: &str = "LAB_TEST_OWNER_ROOT";

    /// Not a separate test: the body of the process that the tests below kill. The process owns a run
    /// with a child and a socket directory.
    #[test]
    fn owner_process() {
        let Some(root) = std::env::var_os(ROOT_VARIABLE) else { return };
        let run = RunDirectory::create(Path::new(&root), "victim").expect("run");
        fs::create_dir(run.processes()).expect("records");
        let sockets = tempfile::Builder::new().prefix(SOCKETS_PREFIX).tempdir().expect("sockets").keep();
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let record = ProcessRecord::of("sleeper", child.id(), Some(&sockets)).expect("alive");
        record.write(&run.processes()).expect("record");
        run.publish(&state(&run)).expect("publish");
        println!("\nowner {} {}", child.id(), sockets.display());
        // This process is killed here, or continues when the test that started it is gone.
        let _ = std::io::stdin().read_line(&mut String::new());
        child.kill().expect("ended");
        child.wait().expect("collected");
    }

    fn state(run: &RunDirectory) -> LabState {
        LabState {
            name: run.name().to_owned(),
            owner: ProcessIdentity::current().expect("own identity"),
            started: jiff::Timestamp::now(),
            phase: "ready".into(),
            cluster: None,
            nodes: Vec::new(),
            kubeconfig: None,
            talosconfig: None,
            control: None,
        }
    }

    struct Owner {
        process: Child,
        child: ProcessIdentity,
        sockets: PathBuf,
    }

    fn start_owner(root: &Path) -> Owner {
        let mut process = Command::new(std::env::current_exe().expect("test binary"))
            .args(["--exact", "host::reap::tests::owner_process", "--nocapture"])
            .env(ROOT_VARIABLE, root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("owner");
        let lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
        let line = lines.map_while(Result::ok).find(|l| l.starts_with("owner ")).expect("owner is up");
        let words: Vec<&str> = line.split(' ').collect();
        let child = ProcessIdentity::of(words[1].parse().expect("pid")).expect("child lives");
        Owner { process, child, sockets: words[2].into() }
    }

    #[test]
    fn a_killed_owner_leaves_nothing_that_the_next_run_does_not_clean_up() {
        let root = tempfile::tempdir().expect("temporary directory");
        let mut owner = start_owner(root.path());
        assert_eq!(reap(root.path()).expect("reap"), [], "a live run was touched");
        let live = live_labs(root.path()).expect("live labs");
        assert_eq!(live.len(), 1);
        assert_eq!(live[0].state.as_ref().expect("state").owner.pid, owner.process.id());

        owner.process.kill().expect("SIGKILL");
        owner.process.wait().expect("collected");
        assert_eq!(live_labs(root.path()).expect("live labs"), []);
        assert!(owner.child.is_alive(), "the child died with the owner: nothing is tested");

        let reaped = reap(root.path()).expect("reap");
        assert_eq!(reaped.len(), 1);
        let one = &reaped[0];
        assert!(one.died && one.problems.is_empty(), "{one:?}");
        assert_eq!(one.ended, std::slice::from_ref(&owner.child));
        assert_eq!(one.removed, std::slice::from_ref(&owner.sockets));
        assert!(!owner.child.is_alive() && !owner.sockets.exists());
        let result = fs::read(root.path().join(&one.run).join(RESULT)).expect("marker");
        let result: RunResult = serde_json::from_slice(&result).expect("marker");
        assert_eq!(result.ending, Ending::Died);
        assert_eq!(reap(root.path()).expect("reap"), [], "a second look finds work again");
    }

    #[test]
    fn a_live_lab_stops_when_asked() {
        let root = tempfile::tempdir().expect("temporary directory");
        let mut owner = start_owner(root.path());
        let live = live_labs(root.path()).expect("live labs");
        live[0].stop(Duration::from_secs(20)).expect("stopped");
        owner.process.wait().expect("collected");
        reap(root.path()).expect("reap");
        assert!(!owner.child.is_alive());
    }

    #[test]
    fn a_finished_run_is_left_as_it_is_and_only_the_newest_are_kept() {
        let root = tempfile::tempdir().expect("temporary directory");
        let mut names = Vec::new();
        for n in 0..4 {
            let run = RunDirectory::create(root.path(), &format!("run{n}")).expect("run");
            let result =
                RunResult { ending: Ending::Passed, at: jiff::Timestamp::now(), cause: String::new() };
            run.finish(&result).expect("finish");
            names.push(run.name().to_owned());
            let start = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + n);
            let lock = fs::File::options().write(true).open(run.path().join(LOCK)).expect("lock file");
            lock.set_modified(start).expect("set time");
        }
        let live = RunDirectory::create(root.path(), "live").expect("run");
        assert_eq!(reap(root.path()).expect("reap"), []);
        assert_eq!(prune(root.path(), 2).expect("prune"), [names[1].clone(), names[0].clone()]);
        assert!(live.path().is_dir() && root.path().join(&names[2]).is_dir());
    }
}
