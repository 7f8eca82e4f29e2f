//! `lab rehearse`: a pair of images through everything, before a demo.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use lab::{
    host::ExitCode,
    node::Role,
    oci::{ImageStore, Lock, Source},
    preflight::{Candidate, Limits, Preflight, PreflightImage},
    report::{Criterion, Display},
};

use super::{Failed, Guests, print_line, run};

/// The scenarios, in order.
const SCENARIOS: [&str; 4] = [
    "01-compute-only-cluster.yaml",
    "02-mixed-role-cluster.yaml",
    "03-tailscale-routing-test.yaml",
    "04-extension-isolation.yaml",
];
/// From how many days on a tag's build is old.
const OLD: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Check a pair of images, form every scenario's cluster from them, and tick off what they must show.
#[derive(Args)]
pub struct Rehearse {
    /// The compute image: a path, or HOST/NAME:TAG
    #[arg(long, value_name = "IMAGE")]
    compute: String,
    /// The gateway image
    #[arg(long, value_name = "IMAGE")]
    gateway: String,
    /// Where the four scenario files are
    #[arg(long, value_name = "DIR", default_value = "scenarios")]
    scenarios: PathBuf,
    /// Boot even when the check of the images finds errors
    #[arg(long)]
    in_spite: bool,
    /// Print the summary and the criteria as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

impl Rehearse {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let files: Vec<_> = SCENARIOS.iter().map(|name| self.scenarios.join(name)).collect();
        let scenarios = run::loaded(&files)?;
        let mut options = self.guests.options("rehearsal", Display::for_stderr());
        let mut candidates = Vec::new();
        for (role, text) in [(Role::COMPUTE, &self.compute), (Role::GATEWAY, &self.gateway)] {
            let role = Role::new(role).map_err(|error| Failed::new(ExitCode::Internal, error))?;
            let source = Source::parse(text)?;
            options.given.insert(role.clone(), source.clone());
            candidates.push(Candidate { role: Some(role), source });
        }
        let store = ImageStore::new(options.root.join("cache"), Lock::read(&options.lock)?);
        let limits = Limits { age: OLD, now: jiff::Timestamp::now() };
        let images = Preflight::of(PreflightImage::all(candidates, &store).await?, limits);
        if !self.json {
            print_line(&images);
        }
        if !images.passed() && !self.in_spite {
            let why = "the images do not pass; mend them, or boot them all the same with --in-spite";
            return Err(Failed::new(ExitCode::VerdictFailed, why));
        }
        let (summary, code) = run::carried_out(options, &scenarios).await?;
        let criteria = Criterion::all(&summary);
        if self.json {
            let value = serde_json::json!({ "images": images, "summary": summary, "criteria": criteria });
            let text = serde_json::to_string_pretty(&value)
                .map_err(|error| Failed::new(ExitCode::Internal, error))?;
            print_line(text);
        } else {
            print_line(format_args!("\n{summary}\n"));
            criteria.iter().for_each(print_line);
        }
        Ok(code)
    }
}
