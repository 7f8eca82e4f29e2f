//! `lab images`: the reference node image and the workload images.

use std::path::PathBuf;

use clap::Subcommand;
use lab::{
    host::ExitCode,
    recipe::{BuildOptions, build},
};

use super::Failed;

/// Node and workload images.
#[derive(Subcommand)]
pub enum Images {
    /// Build whatever is not up to date
    Build {
        /// Variants of the node image, e.g. compute; all of images/variants.yaml unless told
        #[arg(value_name = "VARIANT")]
        variants: Vec<String>,
        /// The sources of the images
        #[arg(long, value_name = "DIR", default_value = "images")]
        sources: PathBuf,
        /// Where the images go
        #[arg(long, value_name = "DIR", default_value = "target/images")]
        out: PathBuf,
    },
}

impl Images {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        let Self::Build { variants, sources, out } = self;
        build(&BuildOptions { sources, output: out, variants }, |line| println!("{line}"))
            .map_err(|error| Failed::new(ExitCode::Internal, error))?;
        Ok(ExitCode::Passed)
    }
}
