//! `lab image`: node images, looked at before a boot, and built.

use std::path::PathBuf;

use clap::Subcommand;
use lab_cluster::tailnet::Programs;
use lab_model::ExitCode;
use lab_recipe::{BuildOptions, build};

use super::{
    Failed, block_on,
    inspect::Inspect,
    preflight::{Pin, Preflight},
    print_line,
};

/// Where the sources that the lab brings are unpacked, beside what is built from them.
const SOURCES: &str = "program-sources";

/// Node images.
#[derive(Subcommand)]
pub enum ImageCommand {
    /// Show the contents of images and the differences between them, without a boot
    Inspect(Inspect),
    /// Check images without a boot: contents, checksums, architecture, age, differences
    Preflight(Preflight),
    /// Fetch images and write the digests of their tags to the lock file
    Pin(Pin),
    /// Build the images that are not up to date: reference node and workloads
    Build {
        /// Variants of the node image, e.g. compute [default: all in images/variants.yaml]
        #[arg(value_name = "VARIANT")]
        variants: Vec<String>,
        /// Directory of the image sources
        #[arg(long, value_name = "DIR", default_value = "images")]
        sources: PathBuf,
        /// Directory for the built images
        #[arg(long, value_name = "DIR", default_value = "target/images")]
        out: PathBuf,
    },
    /// Build the programs of the local tailnet (headscale, Tailscale) for this host; a run builds missing programs itself
    Programs {
        /// Directory `images` of a checkout of this project, with the sources [default: the sources embedded in `lab`]
        #[arg(long, value_name = "DIR")]
        sources: Option<PathBuf>,
        /// Directory of the built images
        #[arg(long, value_name = "DIR", default_value = "target/images")]
        out: PathBuf,
    },
}

impl ImageCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Inspect(inspect) => return block_on(inspect.run()),
            Self::Preflight(preflight) => return block_on(preflight.run()),
            Self::Pin(pin) => return block_on(pin.run()),
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
