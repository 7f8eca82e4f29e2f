//! `lab rehearse`: a pair of images in scenarios 01 to 04, before a demo.

use std::path::PathBuf;

use clap::Args;
use lab_model::{ExitCode, Source, node::Role};
use lab_oci::preflight::{Candidate, Limits, Preflight, PreflightImage};
use lab_report::{Criterion, Display, Stopwatch};

use super::{Failed, Guests, print_json, print_line, run, scenarios, tell};

/// The scenarios, in order.
const SCENARIOS: [&str; 4] = [
    "01-compute-only-cluster",
    "02-mixed-role-cluster",
    "03-tailscale-routing-test",
    "04-extension-isolation",
];

/// Check a pair of images, run scenarios 01 to 04 with them, and time the run.
#[derive(Args)]
#[command(after_help = stopwatch_and_exit_codes())]
#[command(mut_arg("given", |image| image.help(OTHER_ROLES)))]
pub struct Rehearse {
    /// Compute image: a path or HOST/NAME:TAG
    #[arg(long, value_name = "IMAGE")]
    compute: String,
    /// Gateway image: a path or HOST/NAME:TAG
    #[arg(long, value_name = "IMAGE")]
    gateway: String,
    /// Directory of the four scenario files [default: the built-in scenarios]
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// Run the scenarios even if the check of the images (`lab image preflight`) finds errors
    #[arg(long, alias = "in-spite")]
    ignore_preflight_errors: bool,
    /// Fail if a duration of the stopwatch exceeds its budget or is missing [default: only report it]
    #[arg(long)]
    strict_budgets: bool,
    /// Show one line per node instead of the full-screen view
    #[arg(long)]
    lines: bool,
    /// Print the check of the images, the summary, the criteria and the stopwatch as JSON on standard output
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    guests: Guests,
}

/// The help of `--image` here.
const OTHER_ROLES: &str = "Boot IMAGE on the nodes of a role other than compute and gateway, if the scenarios in \
                           --scenarios have such a role; repeatable";

/// The end of the help page.
fn stopwatch_and_exit_codes() -> String {
    format!(
        "Stopwatch: the durations of boot, bootstrap and the whole run, compared with their budgets of 5, 8 and 25 \
         minutes\n\n{}",
        run::exit_codes()
    )
}

impl Rehearse {
    pub(super) async fn run(self) -> Result<ExitCode, Failed> {
        let named = |name: &&str| match &self.scenarios {
            Some(directory) => directory.join(format!("{name}.yaml")),
            None => PathBuf::from(name),
        };
        let scenarios = scenarios::load(&SCENARIOS.iter().map(named).collect::<Vec<_>>(), &[])?;
        let display = if self.lines { Display::for_stderr() } else { Display::screen_on_stderr() };
        let mut options = self.guests.options("rehearsal", display)?;
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
        if !images.passed() && !self.ignore_preflight_errors {
            let why = "the check of the images found errors; fix them, or boot the images nevertheless with \
                       --ignore-preflight-errors";
            return Err(Failed::new(ExitCode::VerdictFailed, why));
        }
        let (recording, summary, code) = run::run_all(options, &scenarios, None).await?;
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

/// The exit code; with `strict`, an exceeded budget turns "passed" into "failed".
fn judged(code: ExitCode, stopwatch: &Stopwatch, strict: bool) -> ExitCode {
    match code {
        ExitCode::Passed if strict && !stopwatch.holds() => {
            tell!("error: a duration of the stopwatch exceeds its budget (--strict-budgets)");
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
