//! Images looked at before anything boots: what each is, and what is wrong with one, or with them
//! together. Fit for every pull request: no VM, seconds.

mod checks;
mod image;
mod report;

pub use checks::{Limits, Preflight};
pub use image::{Candidate, PreflightError, PreflightImage};
