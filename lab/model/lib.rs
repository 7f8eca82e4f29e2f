//! Plain data types that the whole lab shares: names, roles, sizes, digests, addresses, events,
//! diagnostics, YAML with positions, redaction.
//!
//! This crate uses no processes, no network and no async runtime. Its types can be printed, compared,
//! serialized and tested without a VM. Every other crate may depend on it. It depends on no other crate of
//! the workspace.
//!
//! Start reading at [`events`]: all other crates use the event types.

pub mod accelerator;
pub mod diagnostic;
pub mod digest;
pub mod events;
pub mod exit_code;
pub mod files;
mod foreign;
pub mod network;
pub mod node;
mod redact;
pub mod reference;
mod run_result;
mod size;
pub mod source;
pub mod words;
pub mod workloads;
pub mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, InvalidFile, Position, Severity};
pub use digest::Digest;
pub use exit_code::ExitCode;
pub use foreign::{LONGEST_TEXT, excerpt, is_hidden, json_shown, shown, visible, visible_lines};
pub use redact::redact;
pub use run_result::{Ending, RESULT, RunDirectoryError, RunResult, io_error, write_json};
pub use size::{InvalidSize, Size};
pub use source::{Origin, Source, SourceError};
