//! QEMU's events, as plain data.

use std::fmt;

use qapi::qmp::{BlockErrorAction, Event, MigrationStatus, ShutdownCause};

/// The state of a migration, limited to the QEMU states that the lab distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationState {
    Active,
    /// All data is written or read.
    Completed,
    /// The migration cannot complete.
    Failed,
}

/// The QEMU events that the lab handles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QmpEvent {
    /// The guest, or a command from outside, reset the machine.
    Reset {
        /// The guest requested the reset (a reboot).
        by_guest: bool,
    },
    /// The process is about to end.
    Shutdown {
        /// The guest requested the shutdown (a power-off).
        by_guest: bool,
        /// QEMU's cause.
        cause: &'static str,
    },
    /// The guest reported a kernel panic.
    GuestPanicked,
    /// A read or write of a disk failed.
    IoError {
        /// The reason, as the host's system reports it.
        reason: String,
        /// The host has no space left.
        full: bool,
        /// The CPUs stop because of it.
        stops: bool,
    },
    /// The CPUs were stopped.
    Stopped,
    /// The CPUs run again.
    Resumed,
    /// The state of saving or loading memory changed.
    Migration(MigrationState),
}

impl fmt::Display for QmpEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QmpEvent::Reset { by_guest: true } => f.write_str("the guest rebooted"),
            QmpEvent::Reset { by_guest: false } => f.write_str("power-cycled"),
            QmpEvent::Shutdown { by_guest: true, .. } => f.write_str("the guest powered itself off"),
            QmpEvent::Shutdown { by_guest: false, cause } => write!(f, "shut down by {cause}"),
            QmpEvent::GuestPanicked => f.write_str("the guest reported a panic"),
            QmpEvent::IoError { reason, .. } => write!(f, "a disk of the machine failed: {reason}"),
            QmpEvent::Stopped => f.write_str("CPUs stopped"),
            QmpEvent::Resumed => f.write_str("CPUs running"),
            QmpEvent::Migration(MigrationState::Active) => f.write_str("memory is on its way"),
            QmpEvent::Migration(MigrationState::Completed) => f.write_str("memory is saved or loaded"),
            QmpEvent::Migration(MigrationState::Failed) => f.write_str("memory cannot be saved or loaded"),
        }
    }
}

/// Converts a QEMU event; `None` if the lab does not handle it.
pub fn translate(event: &Event) -> Option<QmpEvent> {
    Some(match event {
        Event::RESET { data, .. } => QmpEvent::Reset { by_guest: data.guest },
        Event::SHUTDOWN { data, .. } => {
            QmpEvent::Shutdown { by_guest: data.guest, cause: cause(data.reason) }
        }
        Event::GUEST_PANICKED { .. } => QmpEvent::GuestPanicked,
        Event::BLOCK_IO_ERROR { data, .. } => QmpEvent::IoError {
            reason: data.reason.clone(),
            full: data.nospace == Some(true),
            stops: data.action == BlockErrorAction::stop,
        },
        Event::STOP { .. } => QmpEvent::Stopped,
        Event::RESUME { .. } => QmpEvent::Resumed,
        Event::MIGRATION { data, .. } => QmpEvent::Migration(match data.status {
            MigrationStatus::completed => MigrationState::Completed,
            MigrationStatus::failed | MigrationStatus::cancelled => MigrationState::Failed,
            _ => MigrationState::Active,
        }),
        _ => return None,
    })
}

fn cause(cause: ShutdownCause) -> &'static str {
    match cause {
        ShutdownCause::host_error => "an error of the host",
        ShutdownCause::host_qmp_quit => "the lab",
        ShutdownCause::host_signal => "a signal",
        ShutdownCause::guest_shutdown => "the guest",
        ShutdownCause::guest_reset => "a reboot of the guest",
        ShutdownCause::guest_panic => "a panic of the guest",
        _ => "QEMU",
    }
}
