//! Scenario files: which cluster, what is done wrong to it on purpose, what is looked at, and what
//! it must come to.
//!
//! A file is understood in two steps: strict reading into structs that mirror the file (`raw`),
//! then lowering to plain data that the rest of the lab uses ([`Scenario`]). Both report what is
//! wrong with line, column and the nearest valid word ([`ScenarioError`]); neither touches a VM.
//! The reference of the format is `docs/scenario-files.md`.

mod check;
mod checks;
mod expectation;
mod file;
mod lower_checks;
mod lower_cluster;
mod lower_cni;
mod lower_configs;
mod lower_links;
mod problem;
mod raw;
#[cfg(test)]
mod reference_tests;
mod run;

pub use check::{Architecture, Check, CheckSpec, Disturbance, HoldEnd};
pub use expectation::{Expectation, SeenFailure};
pub use file::Scenario;
pub use problem::ScenarioError;
pub use run::Verdict;
