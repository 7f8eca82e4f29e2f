//! Resource usage of a VM on the host.

use std::{io, sync::Arc, time::Duration};

use lab_model::{
    events::{EventKind, Recorder},
    node::NodeName,
};
use tokio::time::{MissedTickBehavior, interval};

use crate::process::Process;

/// Pause between two samples. Reading a file in `/proc` takes microseconds, starting ps(1)
/// milliseconds.
const PAUSE: Duration = Duration::from_secs(if cfg!(target_os = "linux") { 2 } else { 10 });

/// Memory and processor time of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, bytes.
    pub resident: u64,
    /// Total user and system time since the process started.
    pub cpu_time: Duration,
}

/// Records the resource usage of a VM's process periodically until it ends.
pub(super) async fn record_usage(process: Arc<Process>, node: NodeName, recorder: Recorder) {
    let mut again = interval(PAUSE);
    again.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = process.wait() => return,
            _ = again.tick() => {}
        }
        let Ok(usage) = usage(process.pid()) else { return };
        recorder.record(EventKind::ResourcesSampled {
            node: node.clone(),
            cpu_seconds: usage.cpu_time.as_secs_f64(),
            rss_bytes: usage.resident,
        });
    }
}

/// Current memory and processor time of process `pid`.
///
/// # Errors
/// Fails if the process is gone.
///
/// Reads `/proc/PID/stat` (proc(5)): fields 14 and 15 are clock ticks, field 24 is pages.
#[cfg(target_os = "linux")]
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let constant = |name| nix::unistd::sysconf(name).ok().flatten().and_then(|n| u64::try_from(n).ok());
    let ticks = constant(nix::unistd::SysconfVar::CLK_TCK).unwrap_or(100);
    let page = constant(nix::unistd::SysconfVar::PAGE_SIZE).unwrap_or(4096);
    parse(&stat, ticks, page).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not as proc(5) says: {stat}"))
    })
}

#[cfg(target_os = "linux")]
fn parse(stat: &str, ticks_per_second: u64, page: u64) -> Option<Usage> {
    // The second field is the command in parentheses and may itself contain both.
    let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| rest.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(Usage {
        resident: field(24)? * page,
        cpu_time: Duration::from_millis(ticks * 1000 / ticks_per_second.max(1)),
    })
}

/// Current memory and processor time of process `pid`.
///
/// # Errors
/// Fails if the process is gone.
///
/// Runs ps(1): kilobytes and `[[dd-]hh:]mm:ss[.cc]`.
#[cfg(not(target_os = "linux"))]
pub fn usage(pid: u32) -> io::Result<Usage> {
    let output =
        std::process::Command::new("ps").args(["-o", "rss=,time=", "-p", &pid.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    parse_ps(&text)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("ps -p {pid} printed \"{text}\"")))
}

#[cfg(any(test, not(target_os = "linux")))]
fn parse_ps(text: &str) -> Option<Usage> {
    let (resident, time) = text.split_once(char::is_whitespace)?;
    let (days, time) = time.trim().split_once('-').unwrap_or(("0", time.trim()));
    let clock = time.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))?;
    let seconds = days.parse::<f64>().ok()? * 86_400.0 + clock;
    Some(Usage {
        resident: resident.parse::<u64>().ok()? * 1024,
        cpu_time: Duration::try_from_secs_f64(seconds).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 99 1000 25 18446744073709551615";
        assert_eq!(
            parse(stat, 100, 4096),
            Some(Usage { resident: 25 * 4096, cpu_time: Duration::from_secs(2) })
        );
    }

    #[test]
    fn this_process_costs_something() {
        assert!(usage(std::process::id()).unwrap().resident > 0);
    }

    #[test]
    fn ps_times_are_read_with_and_without_days() {
        let seconds = |text| parse_ps(text).unwrap().cpu_time.as_secs_f64();
        assert!((seconds("2048 1:02.50") - 62.5).abs() < 1e-6);
        assert!((seconds("2048 1-01:00:00") - 90_000.0).abs() < 1e-6);
    }
}
