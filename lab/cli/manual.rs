//! The manual pages, for packages: one for the command, and one for each subcommand.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use lab_model::ExitCode;

use super::{Arguments, Failed};

/// Write the manual pages of all commands.
#[derive(Args)]
pub struct Manual {
    /// Directory for the pages, which exists
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Manual {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        // Without the page of `lab --help`, which is laid out for a terminal.
        clap_mangen::generate_to(Arguments::command().disable_help_subcommand(true), &self.directory)
            .map_err(|error| {
                let message = format!("write manual pages to {}: {error}", self.directory.display());
                Failed::new(ExitCode::BadInput, message)
            })?;
        Ok(ExitCode::Passed)
    }
}
