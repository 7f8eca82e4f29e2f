//! Scenario files: which cluster, what is done wrong to it on purpose, what is looked at, and what
//! it must come to.
//!
//! A file is understood in two steps: strict reading into structs that mirror the file (`raw`),
//! then lowering to plain data that the rest of the lab uses. Both report what is wrong with line,
//! column and the nearest valid word ([`ScenarioError`]); neither touches a VM. The reader is given
//! the table of the checks that a file may name and knows none itself; see [`CheckKind`].
//! The reference of the format is `docs/scenario-files.md`.
//!
//! `checks` and `run` are what a scenario does to a live cluster.

mod check;
mod check_context;
mod check_entry;
pub mod checks;
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
#[cfg(test)]
mod reference_tests;
mod run;
mod vocabulary;

pub use check::{CheckDefinition, CheckKind, CheckSpec, PlannedCheck, ReadCheck, Words};
pub use check_context::CheckContext;
pub use check_entry::{CheckReader, Parameters};
pub use checks::{CHECKS, Check};
pub use expectation::{Expectation, SeenFailure};
pub use problem::ScenarioError;
pub use raw::{RawPatch, Text};
pub use run::{Scenario, Verdict, load, parse, request, run};
pub use vocabulary::vocabulary;
