//! What a scenario does to a live cluster: it forms the cluster, runs the checks, and gives a verdict.
//!
//! Scenario files are read by [`lab_plan::scenario`]; here each check has its code ([`checks`]), and
//! [`CHECKS`] is the table of checks that the reader is given.

pub mod checks;
#[cfg(test)]
mod reference_tests;
mod run;

pub use checks::{CHECKS, Check};
pub use run::{Scenario, Verdict, load, parse, request, run};
