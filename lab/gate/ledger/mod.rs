//! The ledger of a release: every part with its digest, the evidence of its architecture, its size and its build time. It
//! is kept, and the next release is compared with it.

mod change;
mod markdown;
mod part;

use std::path::{Path, PathBuf};

use lab_model::files::{read_bounded, replace_file};
use serde::{Deserialize, Serialize};

pub use change::Change;
pub use part::LedgerPart;

pub(crate) use markdown::cell;

/// The largest ledger that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// The parts of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The version of this form.
    pub form: u32,
    /// The name of the release.
    pub release: String,
    /// The time of the gate.
    pub checked: jiff::Timestamp,
    /// The version of the lab.
    pub lab: String,
    pub parts: Vec<LedgerPart>,
}

/// Why a ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("ledger {}: {why}", path.display())]
pub struct LedgerError {
    pub path: PathBuf,
    pub why: String,
}

impl Ledger {
    /// The version of the form.
    pub(crate) const FORM: u32 = 1;

    /// Reads a ledger.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has another form.
    pub fn read(path: &Path) -> Result<Self, LedgerError> {
        let error = |why: String| LedgerError { path: path.to_owned(), why };
        let bytes = read_bounded(path, LARGEST).map_err(|cause| error(cause.to_string()))?;
        let ledger: Self = serde_json::from_slice(&bytes)
            .map_err(|cause| error(format!("it is not a ledger of `lab gate`: {cause}")))?;
        if ledger.form != Self::FORM {
            return Err(error(format!(
                "it has the form {}; this lab reads form {}",
                ledger.form,
                Self::FORM
            )));
        }
        Ok(ledger)
    }

    /// Writes the ledger as JSON.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LedgerError> {
        let error = |why: String| LedgerError { path: path.to_owned(), why };
        let mut text = serde_json::to_vec_pretty(self).map_err(|cause| error(cause.to_string()))?;
        text.push(b'\n');
        replace_file(path, &text).map_err(|cause| error(cause.to_string()))
    }
}
