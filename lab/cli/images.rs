//! `lab images`: the reference node image and the workload images.

use std::path::PathBuf;

use clap::Subcommand;
use lab_cluster::tailnet::Programs;
use lab_model::ExitCode;
use lab_recipe::{BuildOptions, build};

use super::{Failed, print_line};

/// Where the sources that the lab brings are unpacked, beside what is built from them.
const SOURCES: &str = "program-sources";

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
        /// The directory of their Go modules, as `images` of the project [default: the modules that the lab brings]
        #[arg(long, value_name = "DIR")]
        sources: Option<PathBuf>,
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
                let directory = out.join(Programs::DIRECTORY);
                let programs = match sources {
                    Some(sources) => Programs::at_or_built(&directory, &sources),
                    None => Programs::at_or_built_here(&directory, &out.join(SOURCES)),
                };
                let programs = programs.map_err(|error| Failed::new(ExitCode::Internal, error))?;
                for program in [programs.headscale(), programs.tailscaled(), programs.tailscale()] {
                    print_line(program.display());
                }
            }
        }
        Ok(ExitCode::Passed)
    }
}
