//! The host of the lab: its requirements, speed, free memory, and the runs on it.
//!
//! No function in this module needs a VM. Decisions are pure functions of probed facts ([`Facts`] ->
//! [`Diagnosis`], [`decide`]), separate from probing and locking. No child process may outlive its
//! owner: every child has a [`ProcessRecord`] in its [`RunDirectory`], and [`reap`] ends the
//! processes that a killed run left behind.

mod doctor;
mod facts;
mod live;
mod memory;
mod reap;
mod reservation;
mod run_directory;
mod speed;

pub use doctor::{Diagnosis, Needs, Requirement, RequirementState};
pub use facts::{Facts, ImagesFound};
pub use live::{LabState, LiveLab, LiveNode, StopError, live_labs};
pub use memory::{HOST_RESERVE_MIB, Holder, HostMemory, MemoryShortage, decide, host_memory};
pub use reap::{DEFAULT_RUNS_KEPT, DISK, NODES, Reaped, prune, reap};
pub use reservation::{MemoryReservation, ReserveError, WhenShort};
pub use run_directory::RunDirectory;
pub use speed::{
    HostLoad, MEASUREMENT_LIFETIME, REFERENCE_BOOT, SpeedCache, SpeedFactor, SpeedKey, SpeedMeasurement,
    host_key,
};
