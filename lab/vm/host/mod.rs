//! The machine the lab runs on: what it must have, how fast it is, how much memory is left, and
//! the runs that live on it.
//!
//! Everything here works without a VM. Decisions are pure functions of probed facts
//! ([`Facts`] -> [`Diagnosis`], [`decide`]); probing and locking are kept apart from them.
//! Nothing may outlive its owner: every child has a [`ProcessRecord`] in its [`RunDirectory`], and
//! [`reap`] ends what a killed run left.

mod doctor;
mod facts;
mod live;
mod memory;
mod reap;
mod reservation;
mod run_directory;
mod speed;

pub use doctor::{Diagnosis, Needs, Requirement, RequirementState};
pub use facts::Facts;
pub use live::{LabState, LiveLab, LiveNode, StopError, live_labs};
pub use memory::{HOST_RESERVE_MIB, Holder, HostMemory, MemoryShortage, decide, host_memory};
pub use reap::{DEFAULT_RUNS_KEPT, DISK, NODES, Reaped, prune, reap};
pub use reservation::{MemoryReservation, ReserveError, WhenShort};
pub use run_directory::RunDirectory;
pub use speed::{
    HostLoad, MEASUREMENT_LIFETIME, REFERENCE_BOOT, SpeedCache, SpeedFactor, SpeedKey, SpeedMeasurement,
    host_key,
};
