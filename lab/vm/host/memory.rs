//! Memory of the host, and the check that a topology fits beside the labs that already run.
//!
//! Two labs can each fit on a host alone and still make it swap together. Labs therefore reserve
//! memory before they boot (see [`super::MemoryReservation`]). The decision itself is a pure function
//! in this module.

use std::{fmt, time::Duration};

/// Memory that is reserved for the host: page cache for the disk images, the lab itself, the user's
/// editor.
pub const HOST_RESERVE_MIB: u64 = 512;

/// The host's memory, in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HostMemory {
    /// Installed memory, or the memory limit of the container.
    pub total_mib: u64,
    /// Memory that programs can allocate now without swapping.
    pub available_mib: u64,
}

/// A lab that has reserved memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub run: String,
    pub pid: u32,
    pub reserved_mib: u64,
    /// Memory that its processes already use. The host's available memory does not include this part.
    pub resident_mib: u64,
}

impl Holder {
    /// Memory that is reserved but not used yet.
    fn outstanding_mib(&self) -> u64 {
        self.reserved_mib.saturating_sub(self.resident_mib)
    }
}

/// There is not enough memory for the topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct MemoryShortage {
    pub need_mib: u64,
    /// Memory that is free for another lab.
    pub free_mib: u64,
    /// The host's memory at the time of the decision.
    pub host: HostMemory,
    /// The labs that hold the rest.
    pub holders: Vec<Holder>,
    /// The time that the lab waited for memory.
    pub waited: Option<Duration>,
}

impl MemoryShortage {
    /// Whether the topology does not fit on this host even after every other lab has ended.
    pub fn is_final(&self) -> bool {
        self.need_mib.saturating_add(HOST_RESERVE_MIB) > self.host.total_mib
    }
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not enough memory for the topology: it needs {} MiB, {} MiB are free for it \
             ({} MiB available on this host of {} MiB, less {HOST_RESERVE_MIB} MiB for the host",
            self.need_mib, self.free_mib, self.host.available_mib, self.host.total_mib,
        )?;
        for holder in &self.holders {
            write!(
                f,
                ", less {} MiB that {} (pid {}) holds and has not used yet",
                holder.outstanding_mib(),
                holder.run,
                holder.pid
            )?;
        }
        f.write_str(")")?;
        if let Some(waited) = self.waited {
            write!(f, "; waited {} s for it", waited.as_secs())?;
        }
        f.write_str("; ")?;
        f.write_str(match (self.is_final(), self.holders.is_empty()) {
            (true, _) => "this host is too small: give the nodes less memory or use fewer nodes",
            (false, false) => "end a lab (lab down), or give the nodes less memory",
            (false, true) => "close other programs, or give the nodes less memory",
        })
    }
}

/// Checks that `need_mib` fits. The free memory is the host's available memory, minus the host
/// reserve, minus the memory that other labs have reserved but not used yet.
///
/// # Errors
/// Returns the shortage, with all labs that hold memory.
pub fn decide(need_mib: u64, host: HostMemory, holders: &[Holder]) -> Result<(), MemoryShortage> {
    let promised: u64 = holders.iter().map(Holder::outstanding_mib).sum();
    let free_mib = host.available_mib.saturating_sub(HOST_RESERVE_MIB).saturating_sub(promised);
    if need_mib <= free_mib {
        return Ok(());
    }
    Err(MemoryShortage { need_mib, free_mib, host, holders: holders.to_vec(), waited: None })
}

/// Reads the memory of the host.
///
/// # Errors
/// Fails if the host does not report its memory (no `/proc/meminfo`, no `vm_stat`).
pub fn host_memory() -> std::io::Result<HostMemory> {
    let unreadable =
        |what: &str| std::io::Error::other(format!("{what} does not say how much memory there is"));
    if cfg!(target_os = "linux") {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        return parse_meminfo(&text).ok_or_else(|| unreadable("/proc/meminfo"));
    }
    let run = |program: &str, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output()?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (size, pages) = (run("sysctl", &["-n", "hw.memsize"])?, run("vm_stat", &[])?);
    parse_macos(&size, &pages).ok_or_else(|| unreadable("sysctl hw.memsize and vm_stat"))
}

/// `/proc/meminfo`: lines of `Name: number kB`, see proc_meminfo(5).
fn parse_meminfo(text: &str) -> Option<HostMemory> {
    let mib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    };
    Some(HostMemory { total_mib: mib("MemTotal")?, available_mib: mib("MemAvailable")? })
}

/// macOS has no figure for available memory. Free, inactive, speculative and purgeable pages are
/// available without swapping.
fn parse_macos(memsize: &str, vm_stat: &str) -> Option<HostMemory> {
    let page_size: u64 =
        vm_stat.lines().next()?.split("page size of ").nth(1)?.split(' ').next()?.parse().ok()?;
    let pages = |name: &str| -> u64 {
        let line = vm_stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.trim().trim_end_matches('.').parse().ok()).unwrap_or(0)
    };
    let kinds = ["Pages free", "Pages inactive", "Pages speculative", "Pages purgeable"];
    let available: u64 = kinds.into_iter().map(pages).sum::<u64>() * page_size;
    let total: u64 = memsize.trim().parse().ok()?;
    Some(HostMemory { total_mib: total >> 20, available_mib: available >> 20 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostMemory = HostMemory { total_mib: 16384, available_mib: 8000 };

    fn holder(reserved_mib: u64, resident_mib: u64) -> Holder {
        Holder { run: "rehearsal-1".into(), pid: 42, reserved_mib, resident_mib }
    }

    #[test]
    fn memory_that_a_lab_already_uses_is_not_counted_twice() {
        assert!(decide(7000, HOST, &[holder(4096, 4096)]).is_ok());
        assert!(decide(7000, HOST, &[holder(4096, 5000)]).is_ok());
        assert!(decide(7000, HOST, &[holder(4096, 1000)]).is_err());
        assert!(decide(8000 - HOST_RESERVE_MIB, HOST, &[]).is_ok());
        assert!(decide(8001 - HOST_RESERVE_MIB, HOST, &[]).is_err());
    }

    #[test]
    fn a_shortage_names_need_and_holders_and_the_way_out() {
        let mut shared = decide(7000, HOST, &[holder(4096, 1000)]).unwrap_err();
        shared.waited = Some(Duration::from_secs(30));
        let alone = decide(9000, HOST, &[]).unwrap_err();
        let never = decide(1_000_000, HOST, &[]).unwrap_err();
        insta::assert_snapshot!(format!("{shared}\n\n{alone}\n\n{never}"));
        assert!(never.is_final() && !alone.is_final());
    }

    #[test]
    fn the_figures_of_linux_and_macos_are_read() {
        let linux = "MemTotal:       24069260 kB\nMemFree:        22469260 kB\nMemAvailable:   22986752 kB\n";
        assert_eq!(parse_meminfo(linux), Some(HostMemory { total_mib: 23505, available_mib: 22448 }));
        let vm_stat = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n\
            Pages free:                               10000.\nPages active:                            400000.\n\
            Pages inactive:                          200000.\nPages speculative:                         1000.\n\
            Pages purgeable:                           5000.\n";
        let mac = parse_macos("17179869184\n", vm_stat);
        assert_eq!(mac, Some(HostMemory { total_mib: 16384, available_mib: 3375 }));
        assert_eq!(parse_meminfo("nothing"), None);
        assert_eq!(parse_macos("", ""), None);
    }
}
