//! One QEMU process: accelerator choice, argument vector, QMP, console, disk.
//!
//! Decisions are pure functions over plain data ([`choose_accelerator`], [`arguments`]). Side effects
//! are in [`Machine`], which owns one running VM, and in [`Processes`], which starts child processes
//! so that no child outlives the lab.

mod accelerator;
mod arguments;
mod ask;
mod binary;
mod console;
mod disk;
mod failure;
mod fatal;
mod line;
mod migration;
mod qmp;
mod qmp_event;
mod running;
mod spec;
pub(crate) mod usage;
mod watcher;

pub use accelerator::{HostPlatform, KvmAccess, choose_accelerator};
pub use arguments::{Wiring, arguments, shell_line};
pub use binary::{QemuBinary, QemuError, QemuVersion};
pub use console::ConsoleMark;
pub use disk::{DiskError, META_SIZE, clear_partition, make_disk};
pub use failure::{MachineError, MachineFailure};
pub use fatal::{FATAL_PATTERNS, FatalPattern, fatal_pattern};
pub use line::LineSplitter;
pub use migration::{MemoryFormat, SavedMemory};
pub use qmp::{Qmp, QmpError};
pub use qmp_event::{MigrationState, QmpEvent};
pub use running::Machine;
pub use spec::{DeviceBus, GicVersion, MachineSpec};
pub use usage::{Usage, usage as usage_of};

/// The readers of consoles and monitors. They are public for the fuzz targets alone, which are a crate of
/// their own.
#[doc(hidden)]
pub mod fuzzed {
    pub use super::qmp_event::translate;
}
