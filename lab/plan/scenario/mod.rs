//! Scenario files: which cluster, which faults it gets on purpose, which checks look at it, and what the
//! expected result is.
//!
//! A file is understood in two steps: strict reading into structs that mirror the file (`raw`),
//! then lowering to plain data that the rest of the lab uses. Both report what is wrong with line,
//! column and the nearest valid word ([`ScenarioError`]). The reader is given the table of the checks that a
//! file may name and knows no check itself; see [`CheckKind`]. The reference of the format is
//! `docs/scenario-files.md`.

mod check;
mod check_context;
mod check_entry;
mod expectation;
mod file;
mod lower_captures;
mod lower_checks;
mod lower_cluster;
mod lower_cni;
mod lower_configs;
mod lowering;
mod problem;
mod raw;
mod raw_check;
mod start;
mod vocabulary;

pub use check::{CheckDefinition, CheckKind, CheckSpec, PlannedCheck, ReadCheck, Words};
pub use check_context::CheckContext;
pub use check_entry::{CheckReader, Parameters};
pub use expectation::{Expectation, SeenFailure};
pub use file::Scenario;
pub use problem::ScenarioError;
pub use raw::{RawPatch, Text};
pub use start::Start;
pub use vocabulary::vocabulary;
