//! `lab image`: node images, looked at before a boot, and built.

use std::path::PathBuf;

use clap::Subcommand;
use lab::{
    host::ExitCode,
    recipe::{BuildOptions, build},
    tailnet::Programs,
};

use super::{Failed, block_on, inspect::Inspect, preflight::Pin, preflight::Preflight, print_line};

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
    /// Build the programs of the local tailnet for this host; a run builds them when it needs them
    Programs {
        /// Directory of the image sources
        #[arg(long, value_name = "DIR", default_value = "images")]
        sources: PathBuf,
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
