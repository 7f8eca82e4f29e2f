//! Checks machine configs before any machine boots: `lab config check`.
//!
//! ```text
//! files -> ConfigSet (UserConfigs) -> rules -> Diagnostics (position, severity, rule, message, help)
//! ```
//!
//! A file is user input: the output of `talosctl gen config`, a rendered multi-document file, or a patch,
//! which contains only a part of a config. All given files belong to one cluster. Every rule has an entry
//! in the [`catalogue`] with the reason for the rule, an example with a finding and an example without
//! findings. Tests run the examples.

mod catalogue;
mod config_set;
mod rules;
mod schema;

pub use catalogue::{CatalogueEntry, catalogue};
pub use config_set::{ConfigSet, ReadError};
pub use rules::check;
pub use schema::Schema;
