//! Process identities that remain valid when the kernel reuses process IDs.
//!
//! A pid alone cannot identify a process of a dead lab, because the kernel may have reused it.
//! Therefore a process is identified by pid and start time, and the lab signals it only if both still
//! match. The program name is only informational: after a shell executes its last command, it is
//! still the same process.

use std::{
    io,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// One process on one boot of the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub pid: u32,
    /// The start time, in the format of this host; only useful for comparison.
    pub start: String,
    /// The program name in the kernel (Linux truncates it to 15 bytes).
    pub program: String,
}

impl ProcessIdentity {
    /// The identity of the process that has `pid` now; `None` if there is no such process, or if it
    /// is a zombie.
    pub fn of(pid: u32) -> Option<Self> {
        platform::identity(pid)
    }

    /// The identity of this process.
    ///
    /// # Errors
    /// Fails if the host does not show the process (no `/proc`, no `ps`).
    pub fn current() -> io::Result<Self> {
        let pid = std::process::id();
        Self::of(pid).ok_or_else(|| io::Error::other(format!("the host does not show process {pid}")))
    }

    /// Whether exactly this process still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.start == self.start)
    }

    /// Sends SIGTERM if the process still runs.
    ///
    /// # Errors
    /// Fails if the signal is not permitted.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(nix::sys::signal::Signal::SIGTERM)
    }

    /// Kills the process and waits until it is gone, for at most `patience`. Succeeds if the process
    /// is already gone.
    ///
    /// # Errors
    /// Fails if the signal is not permitted, or if the process still exists afterwards (blocked in
    /// the kernel).
    pub fn kill(&self, patience: Duration) -> io::Result<()> {
        self.signal(nix::sys::signal::Signal::SIGKILL)?;
        // The process is not a child of this process, so there is no wait call, and only Linux has
        // process descriptors. Therefore poll in short intervals.
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} (pid {}) did not end {patience:?} after SIGKILL", self.program, self.pid),
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn signal(&self, signal: nix::sys::signal::Signal) -> io::Result<()> {
        // 0 and numbers beyond i32 would address process groups.
        let Some(pid) = i32::try_from(self.pid).ok().filter(|pid| *pid > 1) else { return Ok(()) };
        if !self.is_alive() {
            return Ok(());
        }
        match nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// A process with the data for the memory account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessUsage {
    pub pid: u32,
    /// The pid of the parent.
    pub parent: u32,
    /// Resident memory in KiB.
    pub resident_kib: u64,
}

/// All processes that this user can see, with their resident memory.
pub fn usage_of_all() -> Vec<ProcessUsage> {
    platform::usage_of_all()
}

/// Resident memory of `root` and all its descendants, in MiB.
pub fn resident_mib_of_tree(all: &[ProcessUsage], root: u32) -> u64 {
    let mut tree = vec![root];
    let mut index = 0;
    while let Some(parent) = tree.get(index).copied() {
        tree.extend(all.iter().filter(|p| p.parent == parent && p.pid != parent).map(|p| p.pid));
        index += 1;
    }
    all.iter().filter(|p| tree.contains(&p.pid)).map(|p| p.resident_kib).sum::<u64>() / 1024
}

#[cfg(target_os = "linux")]
mod platform {
    //! Linux: `/proc`, see proc_pid_stat(5).

    use std::fs;

    use super::{ProcessIdentity, ProcessUsage};

    /// The fields of `/proc/PID/stat` after the command name: `[0]` is the state (field 3 in the
    /// manual page). The name can contain spaces and parentheses, so the last `)` ends it.
    fn stat(pid: u32) -> Option<(String, Vec<String>)> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = text.rsplit_once(')')?;
        let (_, program) = head.split_once('(')?;
        Some((program.to_owned(), tail.split_whitespace().map(str::to_owned).collect()))
    }

    pub fn identity(pid: u32) -> Option<ProcessIdentity> {
        let (program, fields) = stat(pid)?;
        if matches!(fields.first()?.as_str(), "Z" | "X" | "x") {
            return None;
        }
        // The start time (field 22) counts ticks since boot, so the boot ID is added.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let start = format!("{}@{}", fields.get(19)?, boot.trim());
        Some(ProcessIdentity { pid, start, program })
    }

    fn pids() -> impl Iterator<Item = u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
    }

    pub fn usage_of_all() -> Vec<ProcessUsage> {
        let one = |pid| {
            let (_, fields) = stat(pid)?;
            let parent = fields.get(1)?.parse().ok()?;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            // Kernel threads have no resident set.
            let resident_kib = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))
                .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(0);
            Some(ProcessUsage { pid, parent, resident_kib })
        };
        pids().filter_map(one).collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    //! macOS and the BSDs: `ps`. POSIX defines its columns (`lstart` is common to the BSDs).

    use std::process::Command;

    use super::{ProcessIdentity, ProcessUsage};

    fn ps(arguments: &[&str]) -> Option<String> {
        let output = Command::new("ps").args(arguments).env("LC_ALL", "C").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub fn identity(pid: u32) -> Option<ProcessIdentity> {
        let text = ps(&["-o", "state=,lstart=,comm=", "-p", &pid.to_string()])?;
        let words: Vec<&str> = text.split_whitespace().collect();
        // state, then five words of time (Sat Nov 21 05:09:19 2026), then the program's path.
        if words.len() < 7 || words[0].starts_with('Z') {
            return None;
        }
        let path = words[6..].join(" ");
        let program = path.rsplit('/').next().unwrap_or(&path).to_owned();
        Some(ProcessIdentity { pid, start: words[1..6].join(" "), program })
    }

    pub fn usage_of_all() -> Vec<ProcessUsage> {
        let text = ps(&["-axo", "pid=,ppid=,rss="]).unwrap_or_default();
        let one = |line: &str| {
            let mut words = line.split_whitespace();
            Some(ProcessUsage {
                pid: words.next()?.parse().ok()?,
                parent: words.next()?.parse().ok()?,
                resident_kib: words.next()?.parse().ok()?,
            })
        };
        text.lines().filter_map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_while_it_lives_and_not_after() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let identity = ProcessIdentity::of(child.id()).expect("alive");
        assert_eq!(identity.program, "sleep");
        assert!(identity.is_alive());
        identity.kill(Duration::from_secs(5)).expect("killed");
        // The process is a zombie here, and a zombie is not alive.
        assert!(!identity.is_alive());
        child.wait().expect("collected");
        identity.kill(Duration::from_secs(5)).expect("already gone is success");
    }

    #[test]
    fn a_reused_pid_is_left_alone() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let mut other = ProcessIdentity::of(child.id()).expect("alive");
        other.start = "another time".into();
        other.kill(Duration::from_secs(1)).expect("nothing to do");
        other.terminate().expect("nothing to do");
        assert!(child.try_wait().expect("status").is_none(), "a stranger was killed");
        child.kill().expect("end");
        child.wait().expect("collected");
    }

    #[test]
    fn memory_of_a_tree_counts_every_descendant_and_no_other_process() {
        let p = |pid, parent, mib: u64| ProcessUsage { pid, parent, resident_kib: mib * 1024 };
        let all = [p(1, 0, 10), p(5, 1, 100), p(6, 5, 200), p(7, 6, 400), p(8, 1, 800), p(0, 0, 1)];
        assert_eq!(resident_mib_of_tree(&all, 5), 700);
        assert_eq!(resident_mib_of_tree(&all, 99), 0);
    }
}
