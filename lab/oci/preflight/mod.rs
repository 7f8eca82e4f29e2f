//! Images looked at before anything boots: what each is, and what is wrong with one, or with them
//! together. Fit for every pull request: no VM, seconds.

mod checks;
mod finding;
mod image;
mod report;

pub use checks::{Limits, Preflight};
pub use finding::{Finding, Severity};
pub use image::{Candidate, PreflightError, PreflightImage};
