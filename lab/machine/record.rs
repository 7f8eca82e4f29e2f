//! What the lab writes down about its children, so that a later run can end what an earlier one
//! left behind when the lab itself was killed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal, sys::signal::Signal, unistd::Pid};
use serde::{Deserialize, Serialize};

/// Suffix of a process record's file.
const SUFFIX: &str = ".process.json";

/// One child. A pid alone says nothing, since pids are reused; with its start time it is unique.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// What the lab calls it.
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// When it started, in the system's own spelling; only good for comparison.
    pub started: String,
    /// The program.
    pub program: PathBuf,
    /// The lab's pid.
    pub owner: u32,
    /// When the lab started.
    pub owner_started: String,
    /// A directory that goes when the process is gone.
    pub sockets: Option<PathBuf>,
}

impl ProcessRecord {
    /// A record of the living child `pid`, or `None` if it is already gone.
    pub(super) fn of(name: &str, pid: u32, program: &Path) -> Option<Self> {
        let owner = std::process::id();
        Some(Self {
            name: name.to_owned(),
            pid,
            started: started(pid)?,
            program: program.to_owned(),
            owner,
            owner_started: started(owner)?,
            sockets: None,
        })
    }

    /// Where the record lies in `directory`. The pid is part of it: two processes may have one
    /// name.
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}-{}{SUFFIX}", self.name, self.pid))
    }

    /// Writes it to `directory` in one step, readable only by its owner.
    pub fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        let path = self.path(directory);
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer(&mut file, self)?;
        file.persist(&path)?;
        Ok(path)
    }

    /// Whether the child still runs.
    pub fn is_alive(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }

    /// Whether the lab that started it still runs.
    pub fn owner_is_alive(&self) -> bool {
        started(self.owner).is_some_and(|started| started == self.owner_started)
    }
}

/// Ends what labs that are gone left in `directory` (their children, by pid and start time) and
/// removes their records and sockets. Children of living labs are left alone. Returns what was
/// ended. A file that is not a record is not touched.
///
/// # Errors
/// When the directory cannot be read. A process that does not die within five seconds keeps its
/// record, so that the next run tries again.
pub fn reap(directory: &Path) -> io::Result<Vec<ProcessRecord>> {
    let mut reaped = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if !path.to_string_lossy().ends_with(SUFFIX) {
            continue;
        }
        let Some(record) =
            fs::read(&path).ok().and_then(|b| serde_json::from_slice::<ProcessRecord>(&b).ok())
        else {
            continue;
        };
        if record.owner_is_alive() {
            continue;
        }
        if record.is_alive() {
            if !end(&record) {
                continue;
            }
            reaped.push(record.clone());
        }
        if let Some(sockets) = &record.sockets {
            super::sockets::remove(sockets);
        }
        // Another run may have reaped at the same time.
        let _ = fs::remove_file(&path);
    }
    Ok(reaped)
}

/// SIGKILL, then waits until it is gone. It is not our child, so there is no event to wait for.
fn end(record: &ProcessRecord) -> bool {
    let Ok(pid) = i32::try_from(record.pid) else { return false };
    if let Err(error) = signal::kill(Pid::from_raw(pid), Signal::SIGKILL)
        && error != Errno::ESRCH
    {
        return false;
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while record.is_alive() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Start time of a living process: field 22 of `/proc/PID/stat` (proc(5)), in clock ticks since
/// boot. A zombie is not alive.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may itself contain both.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

/// Start time of a living process, as ps(1) prints it.
#[cfg(not(target_os = "linux"))]
fn started(pid: u32) -> Option<String> {
    let output =
        std::process::Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn sleeper() -> (std::process::Child, ProcessRecord) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let record = ProcessRecord::of("sleeper", child.id(), Path::new("sleep")).unwrap();
        (child, record)
    }

    #[test]
    fn children_of_a_living_lab_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, record) = sleeper();
        let path = record.write(directory.path()).unwrap();
        assert_eq!(reap(directory.path()).unwrap(), []);
        assert!(record.is_alive() && path.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!record.is_alive());
    }

    #[test]
    fn children_of_a_lab_that_is_gone_are_ended_and_their_sockets_removed() {
        let directory = tempfile::tempdir().unwrap();
        let sockets = tempfile::Builder::new().prefix("lab-").tempdir().unwrap().keep();
        let (mut child, record) = sleeper();
        let record = ProcessRecord {
            owner_started: "before the flood".into(),
            sockets: Some(sockets.clone()),
            ..record
        };
        let path = record.write(directory.path()).unwrap();
        assert_eq!(reap(directory.path()).unwrap(), [record]);
        assert!(!path.exists() && !sockets.exists());
        child.wait().unwrap();
    }

    #[test]
    fn a_reused_pid_is_not_killed() {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, record) = sleeper();
        let stale = ProcessRecord { owner_started: "then".into(), started: "then".into(), ..record.clone() };
        stale.write(directory.path()).unwrap();
        assert_eq!(reap(directory.path()).unwrap(), []);
        assert!(record.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
