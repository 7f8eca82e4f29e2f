//! The kernel ends a child together with the thread that started it.
//!
//! This is the only module in the crate with `unsafe`. Code between fork and exec requires it, and a
//! QEMU that outlives a killed lab holds gigabytes.

use std::process::Command;

/// Makes the kernel send SIGKILL to the child when the **thread** that spawns it ends for any reason
/// (prctl(2), `PR_SET_PDEATHSIG`). The spawning thread must live as long as the child.
///
/// Only Linux supports this. On other systems this function does nothing, and the next run uses the
/// process record to end the child (see [`crate::host::reap`]).
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "pre_exec has no safe equivalent; the closure only makes system calls")]
pub(super) fn die_with_spawning_thread(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    use nix::{sys::prctl, sys::signal::Signal, unistd};

    let parent = unistd::getpid();
    let arrange = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // If the parent died before the line above, the kernel never sends the signal.
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
