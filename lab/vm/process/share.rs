//! The share of time in which a child process runs.
//!
//! A VM with a small share is a VM on a slow host: its clock goes on while it does not run. This shows faults
//! that a fast node hides, e.g. a component that gives up before a slow node answers. It needs no rights,
//! unlike a limit of a control group.

use std::{fmt, str::FromStr, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep_until};

/// The time in which a process runs once and is stopped once. It is a few ticks of a guest's timer, so the
/// guest sees slow CPUs rather than interruptions.
const PERIOD: Duration = Duration::from_millis(40);

/// The distance of the periods of children that start one after the other, as a share of a period. With the
/// golden ratio, the running parts of any number of children are spread.
const DISTANCE: f64 = 0.618;

/// The share of time in which a process may run, in percent: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuShare(u8);

impl CpuShare {
    /// No limit.
    pub const WHOLE: Self = Self(100);
}

impl Default for CpuShare {
    fn default() -> Self {
        Self::WHOLE
    }
}

/// Not a share.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a share of CPU time; write a number from 1 to 100, in percent")]
pub struct CpuShareError(String);

impl FromStr for CpuShare {
    type Err = CpuShareError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
        number
            .filter(|percent| (1..=100).contains(percent))
            .map(Self)
            .ok_or_else(|| CpuShareError(text.to_owned()))
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// Stops and continues the process in each period. Never returns. The caller drops the future when the process
/// has ended, before it waits for it: until then, the pid belongs to the process.
pub(super) async fn hold_to(share: CpuShare, pid: u32, number: usize) {
    let Some(pid) = i32::try_from(pid).ok().filter(|_| share != CpuShare::WHOLE).map(Pid::from_raw) else {
        return std::future::pending().await;
    };
    let run = PERIOD.mul_f64(f64::from(share.0) / 100.0);
    let mut start = Instant::now() + PERIOD.mul_f64((number as f64 * DISTANCE).fract());
    loop {
        sleep_until(start + run).await;
        // A process that has ended takes no signal, and the caller is about to see its end.
        let _ = kill(pid, Signal::SIGSTOP);
        start = (start + PERIOD).max(Instant::now());
        sleep_until(start).await;
        let _ = kill(pid, Signal::SIGCONT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_read_with_and_without_a_percent_sign() {
        assert_eq!("25".parse(), Ok(CpuShare(25)));
        assert_eq!("25%".parse(), Ok(CpuShare(25)));
        for wrong in ["0", "101", "-1", "", "a quarter", "25 %"] {
            let error = wrong.parse::<CpuShare>().unwrap_err();
            assert!(error.to_string().contains("from 1 to 100"), "{error}");
        }
    }
}
