//! Preflight: inspects images before boot, and checks each image and all images together. It needs no VM
//! and takes seconds, so it is suitable for every pull request.

mod checks;
mod image;
mod report;

pub use checks::{Limits, Preflight};
pub use image::{Candidate, PreflightError, PreflightImage};
