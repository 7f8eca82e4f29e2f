//! `lab gate`: the release gate.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lab_gate::{
    Gate as Verdict, GateError, GateOptions,
    ledger::LedgerError,
    release::{Drafted, Release, draft},
    rules,
};
use lab_model::{ExitCode, files::replace_file};
use lab_oci::{
    containers::Looker,
    preflight::{Candidate, PreflightImage},
};

use super::{Failed, add_to_step_summary, given, preflight::Images, print_json, print_line, tell};

/// Check a release of images without a boot: architectures, kernel modules, extensions, builds, documents, registries.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Gate {
    #[command(subcommand)]
    command: Option<GateCommand>,
    #[command(flatten)]
    check: Check,
}

#[derive(Subcommand)]
enum GateCommand {
    /// Write a first release file from node images
    Init(Init),
}

#[derive(Args)]
struct Check {
    /// Release file
    #[arg(required = true, value_name = "RELEASE")]
    release: Option<PathBuf>,
    /// Show what changed since the release of this ledger
    #[arg(long, value_name = "LEDGER")]
    against: Option<PathBuf>,
    /// Write the ledger of the release, in JSON
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Write the verdict and the ledger, in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: Images,
}

/// Write a first release file from node images.
#[derive(Args)]
struct Init {
    /// Node images with their roles: compute=IMAGE gateway=IMAGE
    #[arg(required = true, value_name = "ROLE=IMAGE", value_parser = candidate)]
    images: Vec<Candidate>,
    /// The file; it must not exist
    #[arg(long, value_name = "FILE", default_value = "release.yaml")]
    out: PathBuf,
    #[command(flatten)]
    from: Images,
}

fn candidate(text: &str) -> Result<Candidate, String> {
    let (role, source) = given(text)?;
    Ok(Candidate { role: Some(role), source })
}

impl Gate {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        match self.command {
            Some(GateCommand::Init(init)) => init.run().await,
            None => self.check.run().await,
        }
    }
}

impl Check {
    async fn run(self) -> Result<ExitCode, Failed> {
        let path = self.release.unwrap_or_default();
        let release = Release::read(&path, &rules::names())?;
        let (store, looker) = (self.from.store()?, Looker::new(&self.from.cache()));
        let options = GateOptions {
            store: &store,
            looker: &looker,
            against: self.against.as_deref(),
            now: jiff::Timestamp::now(),
        };
        let verdict = Verdict::run(release, options, &|step| tell!("{step}")).await?;
        if self.json {
            print_json(&verdict)?;
        } else {
            print_line(&verdict);
        }
        if let Some(path) = &self.ledger {
            verdict.ledger.write(path)?;
        }
        if let Some(path) = &self.markdown {
            write(path, &verdict.markdown())?;
        }
        add_to_step_summary(&verdict.markdown())?;
        Ok(if verdict.passed() { ExitCode::Passed } else { ExitCode::VerdictFailed })
    }
}

impl Init {
    async fn run(self) -> Result<ExitCode, Failed> {
        if self.out.exists() {
            let message = format!("{} exists; name another file with --out", self.out.display());
            return Err(Failed::new(ExitCode::BadInput, message));
        }
        let sources: Vec<_> = self.images.iter().map(|image| image.source.clone()).collect();
        let images = PreflightImage::all(self.images, &self.from.store()?).await?;
        let drafted: Vec<_> = images
            .iter()
            .zip(&sources)
            .filter_map(|(image, source)| {
                Some(Drafted { role: image.role.as_ref()?, source, inspection: &image.inspection })
            })
            .collect();
        write(&self.out, &draft(&drafted))?;
        print_line(format_args!("{}: run `lab gate {}`", self.out.display(), self.out.display()));
        Ok(ExitCode::Passed)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failed> {
    replace_file(path, text.as_bytes())
        .map_err(|error| Failed::new(ExitCode::HostUnable, format!("write {}: {error}", path.display())))
}

impl From<GateError> for Failed {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Ledger(error) => Self::new(ExitCode::BadInput, error),
        }
    }
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::new(ExitCode::HostUnable, error)
    }
}
