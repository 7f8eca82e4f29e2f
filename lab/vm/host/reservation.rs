//! Memory reservations among the labs of one user on one host. A lab reserves before any VM boots.
//!
//! The account is a file in the user's runtime directory. Every change holds a lock. An entry whose
//! owner no longer runs is ignored, so a killed lab never blocks the next lab.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lab_model::files::{FileLock, replace_file, runtime_directory};
use serde::{Deserialize, Serialize};

use super::memory::{Holder, HostMemory, MemoryShortage, decide, host_memory};
use crate::process::{ProcessIdentity, resident_mib_of_tree, usage_of_all};

/// The interval at which a waiting lab checks the memory again. No event reports free memory, and
/// memory usually returns when another lab ends.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenShort {
    /// Fail immediately.
    Refuse,
    /// Wait for other labs to end, for at most this time. Fails immediately if the host is too small
    /// even without other labs.
    WaitUpTo(Duration),
}

/// The reason why no memory was reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// There is not enough memory.
    #[error(transparent)]
    Short(Box<MemoryShortage>),
    /// The account could not be read or written.
    #[error("the account of reserved memory in {path} failed: {source}")]
    Account {
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ReservationEntry {
    run: String,
    owner: ProcessIdentity,
    mib: u64,
    /// Distinguishes the reservations of one process.
    id: u64,
}

/// Reserved memory. Dropping the value, or any end of the process, releases it.
#[derive(Debug)]
pub struct MemoryReservation {
    account: Account,
    id: u64,
    mib: u64,
}

impl MemoryReservation {
    /// Reserves `need_mib` for `run` among the labs of this user.
    ///
    /// # Errors
    /// Returns [`ReserveError::Short`] if there is not enough memory, with all labs that hold memory.
    pub async fn reserve(run: &str, need_mib: u64, when_short: WhenShort) -> Result<Self, ReserveError> {
        let account = Account::of_user()?;
        let started = Instant::now();
        loop {
            // Read again in each iteration: other programs start and stop as well.
            let host = host_memory().map_err(|source| account.error(source))?;
            let shortage = match account.try_reserve(run, need_mib, host) {
                Err(ReserveError::Short(shortage)) => shortage,
                settled => return settled,
            };
            match when_short {
                WhenShort::WaitUpTo(patience) if !shortage.is_final() && started.elapsed() < patience => {
                    tokio::time::sleep(LOOK_AGAIN.min(patience)).await;
                }
                WhenShort::WaitUpTo(_) if !shortage.is_final() => {
                    let waited = Some(started.elapsed());
                    return Err(ReserveError::Short(Box::new(MemoryShortage { waited, ..*shortage })));
                }
                _ => return Err(ReserveError::Short(shortage)),
            }
        }
    }

    pub fn mib(&self) -> u64 {
        self.mib
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        let (id, own) = (self.id, std::process::id());
        // A failure is harmless: the entry becomes invalid when this process ends.
        let _ = self.account.change(|entries| entries.retain(|e| !(e.owner.pid == own && e.id == id)));
    }
}

#[derive(Clone, Debug)]
struct Account {
    directory: PathBuf,
}

impl Account {
    fn of_user() -> Result<Self, ReserveError> {
        let path = PathBuf::from("the runtime directory");
        let directory = runtime_directory().map_err(|source| ReserveError::Account { path, source })?;
        Ok(Self { directory })
    }

    fn error(&self, source: io::Error) -> ReserveError {
        ReserveError::Account { path: self.directory.clone(), source }
    }

    fn try_reserve(&self, run: &str, mib: u64, host: HostMemory) -> Result<MemoryReservation, ReserveError> {
        let owner = ProcessIdentity::current().map_err(|source| self.error(source))?;
        let decision = self.change(|entries| {
            decide(mib, host, &holders(entries)).map(|()| {
                let mine = entries.iter().filter(|e| e.owner == owner).map(|e| e.id);
                let id = mine.max().map_or(0, |id| id + 1);
                entries.push(ReservationEntry { run: run.to_owned(), owner: owner.clone(), mib, id });
                id
            })
        });
        match decision.map_err(|source| self.error(source))? {
            Ok(id) => Ok(MemoryReservation { account: self.clone(), id, mib }),
            Err(shortage) => Err(ReserveError::Short(Box::new(shortage))),
        }
    }

    /// Changes the entries of living owners under the lock.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<ReservationEntry>) -> T) -> io::Result<T> {
        let _lock = FileLock::acquire(&self.directory.join("memory.lock"))?;
        let path = self.directory.join("memory.json");
        let mut entries = read_entries(&path)?;
        entries.retain(|entry| entry.owner.is_alive());
        let result = change(&mut entries);
        replace_file(&path, &serde_json::to_vec_pretty(&entries)?)?;
        Ok(result)
    }
}

fn read_entries(path: &Path) -> io::Result<Vec<ReservationEntry>> {
    match std::fs::read(path) {
        // The file is always replaced as a whole, so a file that does not parse was written by
        // another version.
        Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The holders with their memory. One process can hold several reservations; its used memory counts
/// once.
fn holders(entries: &[ReservationEntry]) -> Vec<Holder> {
    let processes = usage_of_all();
    let mut holders: Vec<Holder> = Vec::new();
    for entry in entries {
        match holders.iter_mut().find(|h| h.pid == entry.owner.pid) {
            Some(holder) => {
                holder.reserved_mib += entry.mib;
                holder.run = format!("{}, {}", holder.run, entry.run);
            }
            None => holders.push(Holder {
                run: entry.run.clone(),
                pid: entry.owner.pid,
                reserved_mib: entry.mib,
                resident_mib: resident_mib_of_tree(&processes, entry.owner.pid),
            }),
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(directory: &tempfile::TempDir) -> Account {
        Account { directory: directory.path().to_owned() }
    }

    const HOST: HostMemory = HostMemory { total_mib: 100_000, available_mib: 50_000 };

    #[test]
    fn a_second_lab_is_refused_until_the_first_returns_its_memory() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let account = account(&directory);
        let first = account.try_reserve("first", 30_000, HOST).expect("fits");
        assert_eq!(first.mib(), 30_000);
        let Err(ReserveError::Short(shortage)) = account.try_reserve("second", 30_000, HOST) else {
            panic!("two labs share one memory")
        };
        assert_eq!(shortage.holders.len(), 1);
        assert_eq!(shortage.holders[0].run, "first");
        drop(first);
        account.try_reserve("second", 30_000, HOST).expect("fits now");
    }

    #[test]
    fn the_reservation_of_a_dead_process_counts_for_nothing() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let account = account(&directory);
        let mut owner = ProcessIdentity::current().expect("own identity");
        owner.start = "in another life".into();
        let stale = ReservationEntry { run: "dead".into(), owner, mib: 49_000, id: 0 };
        replace_file(&directory.path().join("memory.json"), &serde_json::to_vec(&[stale]).expect("json"))
            .expect("write");
        account.try_reserve("next", 30_000, HOST).expect("fits");
    }

    #[test]
    fn a_damaged_account_does_not_stop_the_next_lab() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join("memory.json"), "{").expect("write");
        account(&directory).try_reserve("next", 1, HOST).expect("fits");
    }

    #[tokio::test]
    async fn what_can_never_fit_is_refused_at_once() {
        let started = Instant::now();
        let patience = WhenShort::WaitUpTo(Duration::from_secs(600));
        let refused = MemoryReservation::reserve("huge", u64::MAX / 4, patience).await;
        assert!(matches!(refused, Err(ReserveError::Short(s)) if s.is_final() && s.waited.is_none()));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
