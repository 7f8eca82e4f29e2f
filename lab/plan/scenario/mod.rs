//! Scenario files: the cluster, injected faults, checks and the expected result.
//!
//! The reader works in two steps. First, strict parsing into structs that mirror the file (`raw`).
//! Second, lowering to plain data for the rest of the lab. Both report errors with line, column and the
//! closest valid word ([`ScenarioError`]). The reader receives the table of available checks and has no
//! built-in checks; see [`CheckKind`]. The format reference is `docs/scenario-files.md`.

mod check;
mod check_context;
mod check_entry;
mod controls;
mod expectation;
mod file;
mod lower_captures;
mod lower_checks;
mod lower_cluster;
mod lower_cni;
mod lower_configs;
mod lowering;
mod raw;
mod raw_check;
mod start;
mod vocabulary;

pub use check::{CheckDefinition, CheckKind, CheckSpec, PlannedCheck, ReadCheck, Words};
pub use check_context::CheckContext;
pub use check_entry::{CheckReader, Parameters};
pub use expectation::{Expectation, SeenFailure};
pub use file::{Scenario, ScenarioError};
pub use raw::{RawPatch, Text};
pub use start::Start;
pub use vocabulary::{vocabulary, words_of};
