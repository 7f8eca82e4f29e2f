//! How the reference node image is built, step by step, from sources and packages.
//!
//! Each step has a key over everything that goes into it; a step whose output carries the same
//! key is left alone, so a second build takes no time and a changed source rebuilds what hangs on
//! it and nothing else. Outputs appear by rename, whole or not at all. The same inputs give the
//! same bytes: archives are sorted and carry no times.
//!
//! [`build`] is the whole recipe; `images/` holds what it works from.

mod build;
mod debian;
mod edits;
mod go_program;
mod kernel_modules;
mod layer;
mod listing;
mod oci_layout;
mod padding;
mod report;
mod root_tree;
mod step;
mod variants;

pub use build::{BuildOptions, KUBERNETES_VERSION, build};
pub use padding::{padding_image, padding_layout};
pub use step::RecipeError;
