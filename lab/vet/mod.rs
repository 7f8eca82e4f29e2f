//! Finds checks that pass without a look: own checks run against clusters that are broken on purpose, and shell scripts
//! are read for the usual reasons.
//!
//! A broken cluster needs no VM. Either nothing listens at its addresses, or an API server on the loopback ([`api`])
//! accepts every object, and no node ever runs anything.

mod api;
mod broken;
mod judge;
mod shell;
mod shellcheck;
mod subject;

pub use broken::{Broken, BrokenError};
pub use judge::{Finding, Vetted, vet};
pub use shell::{Reason, read_script};
pub use shellcheck::shellcheck;
pub use subject::{Subject, SubjectError, subjects};
