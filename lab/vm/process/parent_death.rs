//! The kernel's promise that a child dies with the thread that started it.
//!
//! The one place of the crate with `unsafe`: code between fork and exec cannot be had otherwise,
//! and a QEMU that outlives a killed lab keeps gigabytes.

use std::process::Command;

/// Has the kernel send SIGKILL to the child when the **thread** that spawns it ends, however it
/// ends (prctl(2), `PR_SET_PDEATHSIG`). Spawn from a thread that lives as long as the child may.
///
/// Only Linux has this. Elsewhere nothing is arranged here, and the process record lets the next
/// run reap what is left (see [`crate::host::reap`]).
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "pre_exec has no safe equivalent; the closure only makes system calls")]
pub(super) fn die_with_spawning_thread(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    use nix::{sys::prctl, sys::signal::Signal, unistd};

    let parent = unistd::getpid();
    let arrange = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above; then nobody would send the signal.
        if unistd::getppid() != parent {
            return Err(std::io::Error::from(nix::errno::Errno::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe work is allowed. The closure makes two
    // system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(arrange);
    }
}

/// See the Linux variant.
#[cfg(not(target_os = "linux"))]
pub(super) fn die_with_spawning_thread(_command: &mut Command) {}
