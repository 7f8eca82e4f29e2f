//! `lab mirror`: container images that nodes pull, stored on this host.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lab::places::Places;
use lab_model::ExitCode;
use lab_oci::{images::Mirror as Directory, registry::Store};

use super::{Failed, print_line, reference};

#[derive(Subcommand)]
pub enum Mirror {
    /// Fetch images into the mirror: everything that an arm64 node pulls
    Pull(Pull),
    /// List the images of the mirror
    Ls {
        #[command(flatten)]
        place: MirrorPlace,
    },
}

/// The mirror.
#[derive(Args)]
pub struct MirrorPlace {
    /// Directory of the mirror, an OCI image layout [default: target/mirror in a project, otherwise mirror in the default
    /// directory of the runs]
    #[arg(long = "mirror", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl MirrorPlace {
    fn path(self) -> PathBuf {
        self.directory.unwrap_or_else(|| Places::here().mirror())
    }
}

/// Fetch images into the mirror.
#[derive(Args)]
pub struct Pull {
    /// References: HOST/NAME:TAG
    #[arg(required = true, value_name = "REFERENCE")]
    references: Vec<String>,
    #[command(flatten)]
    place: MirrorPlace,
}

impl Mirror {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        match self {
            Self::Pull(pull) => pull.run().await,
            Self::Ls { place } => {
                let store =
                    Store::open(&[place.path()]).map_err(|error| Failed::new(ExitCode::BadInput, error))?;
                store.references().for_each(print_line);
                Ok(ExitCode::Passed)
            }
        }
    }
}

impl Pull {
    async fn run(self) -> Result<ExitCode, Failed> {
        let parse = |text: &String| reference(text, "write HOST/NAME:TAG");
        let references = self.references.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let mirror = Directory::new(self.place.path());
        for reference in references {
            let digest = mirror.pull(&reference).await?;
            print_line(format_args!("{reference} {digest}"));
        }
        Ok(ExitCode::Passed)
    }
}
