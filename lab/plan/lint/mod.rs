//! Checks machine configs before any machine boots: `lab config check`.
//!
//! ```text
//! files -> ConfigSet -> Talos' own library (judge) + rules of the lab -> Diagnostics (position, rule, message, help)
//! ```
//!
//! Talos' own library decides what Talos reads; a [`TalosLibrary`] asks it. The lab adds the place of each
//! error and what to do, says what a file is that is not a machine config, and has rules for what Talos accepts
//! and no cluster survives. Every rule has an entry in the [`catalogue`] with the reason for the rule, examples
//! with a finding and examples without findings. Tests run the examples.
//!
//! A file is user input: the output of `talosctl gen config`, a rendered multi-document file, or a patch,
//! which contains only a part of a config. All given files belong to one cluster.

mod catalogue;
mod check;
mod config_set;
mod judge;
mod kinds;
mod layout;
mod library;
mod rules;
mod schema;

pub use catalogue::{CatalogueEntry, Decides, Example, catalogue};
pub use check::{Checked, check};
pub use config_set::{ConfigSet, ReadError};
pub use layout::config_files;
pub use library::{
    Base, JudgeAnswer, JudgeRequest, JudgedText, NoLibrary, NotAsked, Stage, Statement, TalosLibrary, Verdict,
};
pub use schema::Schema;
