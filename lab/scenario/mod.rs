//! Runs scenarios on live clusters: forms the cluster, runs the checks, and returns a verdict.
//!
//! [`lab_plan::scenario`] reads scenario files. This module contains the code of the checks ([`checks`]);
//! [`CHECKS`] is the table of checks for the reader.

pub mod checks;
mod named_file;
#[cfg(test)]
mod reference_tests;
mod run;

pub use checks::{CHECKS, Check};
pub use named_file::{LARGEST_FILE, read_named};
pub use run::{Scenario, Verdict, load, load_allowing, needs_permission, parse, request, run};
