//! Child processes that end with the lab, and the records that the next run needs to end the children
//! of a killed lab.

mod group;
mod identity;
mod output;
mod parent_death;
mod processes;
mod record;
mod share;
mod sockets;

pub use group::Ran;
pub use identity::{ProcessIdentity, ProcessUsage};
pub(crate) use identity::{resident_mib_of_tree, usage_of_all};
pub use output::Output;
pub use processes::{ChildOptions, Process, ProcessError, Processes};
pub use record::{ProcessRecord, SOCKETS_PREFIX};
pub(crate) use record::{may_remove, read_records};
pub use share::{CpuShare, CpuShareError};
pub use sockets::SocketDirectory;
