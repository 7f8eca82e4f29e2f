//! `lab image`: node images, looked at before a boot, and built.

use std::path::PathBuf;

use clap::Subcommand;
use lab_cluster::tailnet::Programs;
use lab_model::ExitCode;
use lab_plan::config::TalosContract;
use lab_recipe::{BuildOptions, build};
use lab_validator::Validator;

use super::{
    Failed, block_on,
    config::contract,
    inspect::Inspect,
    places::existing_or_built,
    preflight::{Pin, Preflight},
    print_line, say, tell,
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
    /// Build the programs of the local tailnet and of the config check for this host; the lab builds them when it
    /// needs them
    Programs {
        /// Which programs [default: all]
        #[arg(value_enum, value_name = "PROGRAMS")]
        which: Vec<HostPrograms>,
        /// Release of Talos whose config check is built; can be repeated [default: all that the lab knows]
        #[arg(long, value_name = "VERSION", value_parser = contract)]
        talos: Vec<TalosContract>,
        /// Directory of the Go modules, as `images` of the project [default: the modules that the lab brings]
        #[arg(long, value_name = "DIR")]
        sources: Option<PathBuf>,
        /// Directory of the built images [default: target/images if it exists, otherwise the images that came with this
        /// program, otherwise a directory in which the programs are built]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Programs for this host.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HostPrograms {
    /// The control server and the client of the local tailnet
    Tailnet,
    /// Talos' own library, which judges machine configs
    ConfigCheck,
}

impl ImageCommand {
    pub(super) fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Inspect(inspect) => return block_on(inspect.run()),
            Self::Preflight(preflight) => return block_on(preflight.run()),
            Self::Pin(pin) => return block_on(pin.run()),
            Self::Build { variants, sources, out } => {
                build(&BuildOptions { sources, output: out, variants }, |line| say!("{line}"))
                    .map_err(|error| Failed::new(ExitCode::Internal, error))?;
            }
            Self::Programs { which, talos, sources, out } => {
                let out = existing_or_built(out.as_deref());
                let wanted = |programs| which.is_empty() || which.contains(&programs);
                let internal =
                    |error: &dyn std::fmt::Display| Failed::new(ExitCode::Internal, error.to_string());
                if wanted(HostPrograms::Tailnet) {
                    let directory = out.join(Programs::DIRECTORY);
                    let programs = match sources {
                        Some(sources) => Programs::at_or_built(&directory, &sources),
                        None => Programs::at_or_built_here(&directory, &out.join(SOURCES)),
                    };
                    let programs = programs.map_err(|error| internal(&error))?;
                    for program in [programs.headscale(), programs.tailscaled(), programs.tailscale()] {
                        print_line(program.display());
                    }
                }
                if wanted(HostPrograms::ConfigCheck) {
                    let validator = Validator::new(&out, |line| tell!("{line}"));
                    let talos = if talos.is_empty() { TalosContract::ALL.to_vec() } else { talos };
                    for contract in talos {
                        print_line(validator.build(contract).map_err(|error| internal(&error))?.display());
                    }
                }
            }
        }
        Ok(ExitCode::Passed)
    }
}
