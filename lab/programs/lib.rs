//! Go programs that run on the host: the tailnet's programs and the config validator.
//!
//! The lab contains their sources ([`Sources`]), so that a lab without its source tree can also build them.
//! [`Build`] builds one program. The caller decides where programs are kept and takes the lock of that
//! directory. This crate has no async runtime: a build blocks for minutes.

mod build;
mod sources;

pub use build::{Build, BuildError};
pub use sources::Sources;
