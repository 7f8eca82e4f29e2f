//! The release gate: everything that a release of images can get wrong and that needs no boot to see.
//!
//! Data flows one way:
//!
//! ```text
//! release file -> Release -> gather -> Evidence -> rules -> findings, Ledger
//!                 plain data  effects   plain data   pure
//! ```
//!
//! [`release`] reads the file that names the parts of a release. [`gather`] fetches and reads the parts. [`rules`] is one
//! table of rules, each in its own file, that look only at the [`evidence`]. A [`ledger`] keeps what the parts were. This
//! crate depends on `lab-model`, `lab-image` and `lab-oci`.
//!
//! Start reading at [`Gate::run`].

mod entries;
pub mod evidence;
mod gate;
mod gather;
pub mod ledger;
pub mod release;
mod report;
pub mod rules;

pub use gate::{Gate, GateError, GateOptions};

/// The readers of foreign texts. They are public for the fuzz targets alone, which are a crate of their own.
#[doc(hidden)]
pub mod fuzzed {
    pub use super::gather::{fuzzed_statement as verify_statement, manifest_mentions, mentions};
}
