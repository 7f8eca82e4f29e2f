//! `lab rehearse`: a pair of images through everything, before a demo.

use std::path::PathBuf;

use clap::Args;
use lab_model::{ExitCode, Source, node::Role};
use lab_oci::preflight::{Candidate, Limits, Preflight, PreflightImage};
use lab_report::{Criterion, Display, Stopwatch};

use super::{Failed, Guests, print_json, print_line, run};

/// The scenarios, in order.
const SCENARIOS: [&str; 4] = [
    "01-compute-only-cluster.yaml",
    "02-mixed-role-cluster.yaml",
    "03-tailscale-routing-test.yaml",
    "04-extension-isolation.yaml",
];

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
    /// Fail when a time of the stopwatch exceeds its budget
    #[arg(long)]
    strict_budgets: bool,
    /// Show a line per node in place of the whole terminal
    #[arg(long)]
    lines: bool,
    /// Print the summary, the criteria and the stopwatch as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

impl Rehearse {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let files: Vec<_> = SCENARIOS.iter().map(|name| self.scenarios.join(name)).collect();
        let scenarios = run::loaded(&files)?;
        let display = if self.lines { Display::for_stderr() } else { Display::screen_on_stderr() };
        let mut options = self.guests.options("rehearsal", display);
        let mut candidates = Vec::new();
        for (role, text) in [(Role::COMPUTE, &self.compute), (Role::GATEWAY, &self.gateway)] {
            let role = Role::new(role).map_err(|error| Failed::new(ExitCode::Internal, error))?;
            candidates.push(Candidate { role: Some(role), source: Source::parse(text)? });
        }
        let images = PreflightImage::all(candidates.clone(), &options.image_store()?).await?;
        // What was checked is what boots, in every scenario, also when a tag moves meanwhile.
        for (Candidate { role, source }, image) in candidates.into_iter().zip(&images) {
            options.given.extend(role.map(|role| (role, source.at(image.origin.digest.as_ref()))));
        }
        let images = Preflight::of(images, Limits::of_days(Limits::OLD_DAYS));
        if !self.json {
            print_line(&images);
        }
        if !images.passed() && !self.in_spite {
            let why = "the images do not pass; mend them, or boot them all the same with --in-spite";
            return Err(Failed::new(ExitCode::VerdictFailed, why));
        }
        let (recording, summary, code) = run::carried_out(options, &scenarios).await?;
        let stopwatch = Stopwatch::of(&recording.events);
        let criteria = Criterion::all(&summary);
        if self.json {
            let value = serde_json::json!({
                "images": images, "summary": summary, "criteria": criteria, "stopwatch": stopwatch,
            });
            print_json(&value)?;
        } else {
            print_line(format_args!("\n{summary}\n"));
            criteria.iter().for_each(print_line);
            print_line(format_args!("\n{stopwatch}"));
        }
        Ok(judged(code, &stopwatch, self.strict_budgets))
    }
}

/// The exit code with the stopwatch's word in it, if that counts.
fn judged(code: ExitCode, stopwatch: &Stopwatch, strict: bool) -> ExitCode {
    match code {
        ExitCode::Passed if strict && !stopwatch.holds() => {
            eprintln!("error: a time exceeds its budget, and --strict-budgets was given");
            ExitCode::VerdictFailed
        }
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_exceeded_counts_only_when_budgets_are_strict() {
        // Nothing was recorded, so nothing was measured.
        let late = Stopwatch::of(&[]);
        assert_eq!(judged(ExitCode::Passed, &late, false), ExitCode::Passed);
        assert_eq!(judged(ExitCode::Passed, &late, true), ExitCode::VerdictFailed);
        assert_eq!(judged(ExitCode::HostUnable, &late, true), ExitCode::HostUnable);
        let in_time = Stopwatch { figures: Vec::new() };
        assert_eq!(judged(ExitCode::Passed, &in_time, true), ExitCode::Passed);
    }
}
