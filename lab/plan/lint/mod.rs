//! What is wrong with machine configs, told before anything boots: `lab config check`.
//!
//! ```text
//! files -> ConfigSet (UserConfigs) -> rules -> Diagnostics (position, severity, rule, message, help)
//! ```
//!
//! A file is what a user brings: the output of `talosctl gen config`, a rendered multi-document
//! file, or a patch, which holds only a part. The files given together are taken for one cluster's.
//! Every rule has an entry in the [`catalogue`] with an example that triggers it, one that does
//! not, and why it matters; tests run the examples.

mod catalogue;
mod config_set;
mod rules;
mod schema;

pub use catalogue::{CatalogueEntry, catalogue};
pub use config_set::{ConfigSet, ReadError};
pub use rules::check;
pub use schema::Schema;
