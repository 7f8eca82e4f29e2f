//! Builds the reference node image step by step from sources and packages.
//!
//! Each step has a key over all its inputs. A step is skipped if its output has the same key. A repeated
//! build therefore takes no time, and a source change rebuilds only the dependent steps. Outputs appear
//! atomically by rename. Builds are reproducible: archives are sorted and contain no timestamps.
//!
//! [`build`] runs the complete recipe. `images/` contains its inputs.

mod build;
mod debian;
mod edits;
mod go_program;
mod kernel_modules;
mod layer;
mod listing;
mod oci_layout;
mod padding;
mod platform;
mod report;
mod root_tree;
mod step;
mod variants;

pub use build::{BuildOptions, KUBERNETES_VERSION, build};
pub use padding::{padding_image, padding_layout};
pub use platform::platform_layout;
pub use step::RecipeError;
