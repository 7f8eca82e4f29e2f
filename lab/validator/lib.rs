//! Talos' own library as a program that judges machine configs.
//!
//! The Go program in `program/` links `github.com/siderolabs/talos/pkg/machinery`, with which Talos and
//! talosctl read configs. One build exists for each release that the lab supports. The lab contains the
//! sources and builds a program when it first needs it:
//!
//! ```text
//! lab-plan (what to ask, what the answer means) -> Validator -> Process <-> program of the release
//! ```
//!
//! [`Validator`] implements [`lab_plan::lint::TalosLibrary`]. Start there. This crate has no async runtime:
//! an answer takes milliseconds, but a build blocks for minutes, so async code asks in a blocking task.

mod process;
mod program;
mod sources;
mod validator;

pub use program::BuildError;
pub use validator::Validator;
