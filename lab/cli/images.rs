//! `lab images`: the reference node image and the workload images.

use std::path::PathBuf;

use clap::Subcommand;
use lab_cluster::tailnet::Programs;
use lab_model::ExitCode;
use lab_recipe::{BuildOptions, build};

use super::{Failed, print_line};

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
    /// Build the programs of the lab's own tailnet for this host, which a run that needs them does otherwise
    Programs {
        /// The sources of the images
        #[arg(long, value_name = "DIR", default_value = "images")]
        sources: PathBuf,
        /// Where the images are
        #[arg(long, value_name = "DIR", default_value = "target/images")]
        out: PathBuf,
    },
}

impl Images {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Build { variants, sources, out } => {
                build(&BuildOptions { sources, output: out, variants }, |line| println!("{line}"))
                    .map_err(|error| Failed::new(ExitCode::Internal, error))?;
            }
            Self::Programs { sources, out } => {
                let programs = Programs::at_or_built(&out.join(Programs::DIRECTORY), &sources)
                    .map_err(|error| Failed::new(ExitCode::Internal, error))?;
                for program in [programs.headscale(), programs.tailscaled(), programs.tailscale()] {
                    print_line(program.display());
                }
            }
        }
        Ok(ExitCode::Passed)
    }
}
